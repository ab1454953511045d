"""The training loop: one concept's LoRA on any Stable Diffusion XL pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.pipeline import Pipeline
from generation.train.adapters import add_adapters, write_adapters
from generation.train.losses import dreambooth_loss, wanted
from generation.train.pictures import Captioned, instance_images, prior_images
from generation.train.recipe import Recipe

Progress = Callable[[str, int, int], None]
MAX_NORM = 1.0


@dataclass(frozen=True)
class Trained:
    """What training did: mean loss over its first and last tenth of steps, and how many numbers were trained."""

    first_loss: float
    last_loss: float
    parameters: int


class Conditions:
    """Prompts as the UNet takes them; encoded once where the text encoders stay as they are."""

    def __init__(self, pipeline: Pipeline, size: int, *, trained: bool) -> None:
        self.pipeline, self.trained = pipeline, trained
        self._known: dict[str, tuple[Tensor, Tensor]] = {}
        width = pipeline.text_encoder_2.config.projection_dim
        self._times = pipeline._get_add_time_ids((size, size), (0, 0), (size, size), pipeline.unet.dtype, width)

    def __call__(self, prompts: list[str]) -> dict[str, Any]:
        """Return the UNet's keyword arguments for a batch of prompts."""
        if self.trained:
            states, pooled = self._encode(prompts)
        else:
            with torch.no_grad():
                fresh = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
                self._known |= {prompt: self._encode([prompt]) for prompt in fresh}
            states, pooled = (torch.cat(part) for part in zip(*(self._known[prompt] for prompt in prompts), strict=True))
        times = self._times.to(states.device).repeat(len(prompts), 1)
        return {"encoder_hidden_states": states, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": times}}

    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        states, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, device=self.pipeline.unet.device, do_classifier_free_guidance=False
        )
        return states, pooled


def train_lora(pipeline: Pipeline, recipe: Recipe, folder: Path, out: Path, kept: Path, progress: Progress) -> Trained:
    """Train the recipe's LoRA on `pipeline` (its layers stay in it) and write it to `out`.

    Relative references start from `folder`; prior images are kept below `kept`. Everything random comes from the recipe's seed.

    Raises:
        UserError: the pipeline is no SDXL, or images are missing or unreadable.
    """
    from diffusers import DDPMScheduler

    if type(pipeline).__name__ != "StableDiffusionXLPipeline":
        raise UserError(f"base {recipe.base}: is a {type(pipeline).__name__}; the trainer knows StableDiffusionXLPipeline")
    own = instance_images(recipe, folder)
    prior = prior_images(pipeline, recipe, kept, lambda done, total: progress("drawing prior images", done, total))
    generator = torch.Generator("cpu").manual_seed(recipe.seed)
    latents = encode(pipeline, [*own, *prior], generator)
    unet_weights, text_weights = add_adapters(pipeline, recipe)
    weights = [*unet_weights, *text_weights]
    groups = [{"params": unet_weights, "lr": recipe.learning_rate}, {"params": text_weights, "lr": recipe.text_learning_rate}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=recipe.weight_decay)
    scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    conditions = Conditions(pipeline, recipe.size, trained=bool(text_weights))
    losses = []
    for step in range(recipe.steps):
        mine = torch.randint(len(own), (recipe.batch,), generator=generator).tolist()
        others = (len(own) + torch.randint(len(prior), (recipe.batch,), generator=generator)).tolist() if prior else []
        clean = latents[mine + others]
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        when = torch.randint(scheduler.config.num_train_timesteps, (len(clean),), generator=generator).to(clean.device)
        prompts = [(own + prior)[place][1] for place in mine + others]
        noisy = scheduler.add_noise(clean, noise, when)
        with torch.autocast(clean.device.type, pipeline.unet.dtype, enabled=pipeline.unet.dtype != torch.float32):
            guess = pipeline.unet(noisy, when, **conditions(prompts)).sample
        loss = dreambooth_loss(guess, wanted(scheduler, clean, noise, when), len(mine), recipe.prior_weight)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(weights, MAX_NORM)
        optimizer.step()
        losses.append(float(loss.detach()))
        progress("training", step + 1, recipe.steps)
    write_adapters(pipeline, recipe, out)
    tenth = max(1, recipe.steps // 10)
    return Trained(float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:])), sum(weight.numel() for weight in weights))


def encode(pipeline: Pipeline, images: list[Captioned], generator: torch.Generator) -> Tensor:
    """Return the images' latents, one row each, on the UNet's device; in float32, since SDXL's VAE overflows in half."""
    vae = pipeline.vae
    before = vae.dtype
    if before != torch.float32:
        vae.to(torch.float32)
    rows = []
    with torch.no_grad():
        for image, _ in images:
            pixels = pipeline.image_processor.preprocess(image).to(vae.device, torch.float32)
            spread = vae.encode(pixels).latent_dist
            rows.append(spread.mean + spread.std * torch.randn(spread.mean.shape, generator=generator).to(vae.device))
    if before != torch.float32:
        vae.to(before)
    return torch.cat(rows) * float(vae.config.scaling_factor)
