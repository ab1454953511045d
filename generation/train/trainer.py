"""The training loop: one concept's LoRA on any Stable Diffusion 1.5 or XL pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.families import denoiser, family_of
from generation.pipeline import Pipeline
from generation.token_embeddings import TokenVocabulary, text_encoders, write_embeddings
from generation.train.adapters import add_adapters, without_adapters, write_adapters
from generation.train.checkpoint import Checkpoint, Row, write_losses, write_samples
from generation.train.objective import Objective, TrainingBatch
from generation.train.precision import accelerator_for
from generation.train.prompt_conditioning import PromptConditions
from generation.train.recipe import TrainingRecipe
from generation.train.reference_folder import Captioned
from generation.train.token_training import begin_words, without_words
from generation.train.training_images import draw, instance_images, prior_images
from generation.train.training_notes import training_notes

Progress = Callable[[str, int, int], None]
MAX_NORM = 1.0
# Ending of the file of textual-inversion embeddings.
EMBEDDINGS = ".embeddings.safetensors"


@dataclass(frozen=True)
class Trained:
    """What training did: mean loss over its first and last tenth of steps, and how many numbers were trained."""

    first_loss: float
    last_loss: float
    parameters: int


def train_lora(
    pipeline: Pipeline,
    recipe: TrainingRecipe,
    folder: Path,
    out: Path,
    cache: Path,
    progress: Progress,
    progress_folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train the recipe's LoRA on `pipeline` and write it to `out`.

    Everything random comes from the recipe's seed. The LoRA layers and new words remain in the pipeline.

    Parameters
    ----------
    pipeline
        Base model; it stays in the type and on the device it has.
    recipe
        What to train.
    folder
        Base of relative paths of references.
    out
        LoRA file to write; textual-inversion embeddings are written next to it, ending in `.embeddings.safetensors`.
    cache
        Folder of the prior images.
    progress
        Called with what is done, the number of finished steps and their total.
    progress_folder
        Losses, sample images and a checkpoint are written here every `keep_every` steps, and a run resumes from a checkpoint
        in it. Default: None, nothing is written.
    say
        Called with each line for the user: the images and captions that are used, what looks like a mistake. Default: none is
        shown.

    Raises:
        UserError: images are missing or unreadable, or the recipe does not fit the pipeline, the device or the checkpoint; the
            loss or a weight is not a finite number: nothing is written then, and the last checkpoint stays.
    """
    from diffusers import DDPMScheduler

    accelerator = accelerator_for(denoiser(pipeline).device, denoiser(pipeline).dtype)
    references = instance_images(recipe, folder)
    own = references.images
    for line in references.notes:
        say(line)
    prior = prior_images(pipeline, recipe, cache, lambda done, total: progress("sampling prior images", done, total))
    generator = torch.Generator("cpu").manual_seed(recipe.seed)
    latents = encode(pipeline, [*own, *prior], generator)
    adapters = add_adapters(pipeline, recipe)
    words, rate = None, 0.0
    if recipe.embeddings is not None:
        words, rate = begin_words(pipeline, recipe.embeddings, recipe.seed), recipe.embeddings.learning_rate
        TokenVocabulary(pipeline, [words])
    vectors: list[Any] = [] if words is None else list(words.vectors.values())
    rates = ((adapters.unet, recipe.learning_rate), (adapters.text, recipe.text_learning_rate), (vectors, rate))
    weights = [weight for group, _ in rates for weight in group]
    if recipe.gradient_checkpointing:
        _compute_twice(pipeline, text=bool(adapters.text or vectors))
    groups = [{"params": group, "lr": rate} for group, rate in rates]
    optimizer = accelerator.prepare(
        torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=recipe.weight_decay)
    )
    scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    conditions = PromptConditions(pipeline, recipe.size, trained=bool(adapters.text or vectors))
    objective = _objective(pipeline, recipe, scheduler, conditions, accelerator)
    checkpoint = None
    if progress_folder is not None:
        checkpoint = Checkpoint(progress_folder, recipe, own, weights, optimizer, [generator, objective.generator])
    rows: list[Row] = checkpoint.read() if checkpoint is not None else []
    for step in range(len(rows), recipe.steps):
        adapters.dropout.step = step
        batch = _batch(own, prior, latents, recipe.batch, scheduler.config.num_train_timesteps, generator)
        terms = objective.terms(batch)
        loss = objective.total(terms)
        if not torch.isfinite(loss):
            raise _diverged(recipe, step + 1, f"the loss is {float(loss.detach())}", progress_folder)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, MAX_NORM)
        optimizer.step()
        rows.append({"step": step + 1} | {name: float(term.detach()) for name, term in {"loss": loss, **terms}.items()})
        adapters.dropout.step = None
        if progress_folder is not None and checkpoint is not None and (step + 1) % recipe.keep_every == 0:
            _check_finite(weights, recipe, step + 1, progress_folder)
            checkpoint.write(rows)
            _look(pipeline, recipe, progress_folder, rows)
        progress("training", step + 1, recipe.steps)
    _check_finite(weights, recipe, recipe.steps, progress_folder)
    if words is not None:
        write_embeddings(words, pipeline, recipe.concept, out.with_suffix(EMBEDDINGS))
    notes = training_notes(recipe, own, [row["loss"] for row in rows], family_of(pipeline).name)
    write_adapters(pipeline, adapters.notes | notes, out)
    if progress_folder is not None and checkpoint is not None:
        _look(pipeline, recipe, progress_folder, rows)
        checkpoint.remove()
    tenth = max(1, recipe.steps // 10)
    losses = [row["loss"] for row in rows]
    numbers = adapters.numbers + sum(one.numel() for one in vectors)
    trained = Trained(float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:])), numbers)
    if trained.last_loss > trained.first_loss:
        say(
            f"{out}: the loss rose from {trained.first_loss:.4f} to {trained.last_loss:.4f}; "
            f"if it keeps rising over more steps, lower learning_rate (it is {recipe.learning_rate:g})"
        )
    return trained


def _check_finite(weights: list[Any], recipe: TrainingRecipe, step: int, progress_folder: Path | None) -> None:
    """Raise a UserError if a trained weight is NaN or infinite."""
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise _diverged(recipe, step, "a trained weight is not a finite number", progress_folder)


def _diverged(recipe: TrainingRecipe, step: int, what: str, progress_folder: Path | None) -> UserError:
    """Return the error of a training that diverged."""
    remedies = [f"lower learning_rate (it is {recipe.learning_rate:g})"]
    if recipe.dtype != "float32":
        remedies.append(f"train in float32 or bfloat16 instead of {recipe.dtype}")
    last = step - 1 - (step - 1) % recipe.keep_every
    stays = f"; the checkpoint of step {last} stays in {progress_folder}" if progress_folder is not None and last else ""
    return UserError(f"{recipe.concept}: step {step}: {what}, so no LoRA is written{stays}; {', or '.join(remedies)}")


def _compute_twice(pipeline: Pipeline, *, text: bool) -> None:
    """Enable gradient checkpointing in the UNet, and in the text encoders if they are trained."""
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    denoiser(pipeline).enable_gradient_checkpointing()
    for encoder in text_encoders(pipeline).values() if text else ():
        for layer in encoder.modules():
            # transformers' own switch works in training mode alone, which would also turn on dropouts of the base model
            if isinstance(layer, GradientCheckpointingLayer):
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def _look(pipeline: Pipeline, recipe: TrainingRecipe, folder: Path, rows: list[Row]) -> None:
    """Write the losses so far, and sample images of the concept."""
    write_losses(folder, rows)
    if recipe.samples:
        images = draw(pipeline, [recipe.prompt] * recipe.samples, list(range(recipe.samples)), recipe)
        write_samples(folder, len(rows), images)


def _objective(
    pipeline: Pipeline,
    recipe: TrainingRecipe,
    scheduler: Any,  # noqa: ANN401 - diffusers ships no types
    conditions: PromptConditions,
    accelerator: Any,  # noqa: ANN401 - nor does accelerate
) -> Objective:
    def ask(noisy: Tensor, when: Tensor, condition: dict[str, Any]) -> Tensor:
        with accelerator.autocast():
            prediction: Tensor = denoiser(pipeline)(noisy, when, **condition).sample
        return prediction

    def reference(noisy: Tensor, when: Tensor, prompts: list[str]) -> Tensor:
        with torch.no_grad(), without_adapters(pipeline):
            return ask(noisy, when, conditions.fixed([without_words(prompt, recipe.embeddings) for prompt in prompts]))

    return Objective(recipe, scheduler, lambda noisy, when, prompts: ask(noisy, when, conditions(prompts)), reference)


def _batch(
    own: list[Captioned], prior: list[Captioned], latents: Tensor, size: int, timesteps: int, generator: torch.Generator
) -> TrainingBatch:
    """Return `size` rows of the concept and, if there are prior images, as many of them, drawn with replacement."""
    mine = torch.randint(len(own), (size,), generator=generator).tolist()
    others = (len(own) + torch.randint(len(prior), (size,), generator=generator)).tolist() if prior else []
    clean = latents[mine + others]
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    when = torch.randint(timesteps, (len(clean),), generator=generator).to(clean.device)
    return TrainingBatch(clean, noise, when, [(own + prior)[index][1] for index in mine + others], len(mine))


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
