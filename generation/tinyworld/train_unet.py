"""Train tinyworld's UNet: v-prediction on latents, conditioned on the two frozen text encoders, SDXL's way."""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from generation.tinyworld.pools import Model, Pool, to_tensor, token_ids

# SD's own schedule fails at 16 x 16 latents: its last step still shows the background. With this one sqrt(abar_T) = .002.
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.032,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
}
TIME_IDS = (64.0, 64.0, 0.0, 0.0, 64.0, 64.0)
UNCONDITIONAL = 0.12  # share of captions left out for guidance: half zeroed (no negative prompt), half the empty prompt
PEAK_RATE = 6e-4
FOCUS = (100, 700)  # half of the steps of the noise schedule come from here, where shapes and textures are decided


def new_unet(cross: int, pooled: int, seed: int = 4) -> Model:
    """Return an untrained UNet with the text_time conditioning of SDXL: under 3 M parameters."""
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(48, 96),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=16,
            attention_head_dim=(3, 6),
            use_linear_projection=True,
            cross_attention_dim=cross,
            addition_embed_type="text_time",
            addition_time_embed_dim=16,
            projection_class_embeddings_input_dim=16 * len(TIME_IDS) + pooled,
        )


def encode(folder: Path, images: Tensor, batch: int = 64) -> Tensor:
    """Return the scaled latents (mode of the posterior) of images in [-1, 1]."""
    from diffusers import AutoencoderKL

    vae: Model = AutoencoderKL.from_pretrained(folder / "vae")
    with torch.inference_mode():
        parts = [vae.encode(chunk).latent_dist.mode() for chunk in torch.split(images, batch)]
    return torch.cat(parts).clone() * float(vae.config.scaling_factor)


class TextSide:
    """The two frozen text encoders, read exactly as the SDXL pipeline reads them."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.tokenizer: Model = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.first: Model = CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval().requires_grad_(False)
        self.second: Model = (
            CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").float().eval().requires_grad_(False)
        )

    def __call__(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return per-token states (n, tokens, both widths) and the pooled projection (n, width)."""
        with torch.no_grad():
            first = self.first(ids, output_hidden_states=True).hidden_states[-2]
            second = self.second(ids, output_hidden_states=True)
        return torch.cat([first, second.hidden_states[-2]], -1), second.text_embeds


def train_unet(pool: Pool, out: Path, minutes: float, say: Callable[[str], None], batch: int = 16, seed: int = 5) -> None:
    """Train for `minutes` and write the averaged weights to `out`/unet, at least every 300 steps.

    The learning rate follows the share of the time that is spent, so a run of any length ends annealed. Resumes from
    `out`/unet if it exists, at half the rate.
    """
    from diffusers import DDPMScheduler, UNet2DConditionModel

    scheduler: Model = DDPMScheduler(**SCHEDULE)
    side = TextSide(out)
    latents = encode(out, to_tensor(pool.images))
    ids = token_ids(side.tokenizer, pool.captions)
    empty = token_ids(side.tokenizer, [""])
    states, pooled = side(ids[:1])
    known = (out / "unet").is_dir()
    unet = UNet2DConditionModel.from_pretrained(out / "unet") if known else new_unet(states.shape[-1], pooled.shape[-1])
    peak = PEAK_RATE / 2 if known else PEAK_RATE
    average = copy.deepcopy(unet).requires_grad_(False)
    say(f"unet: {sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, {len(pool)} latents")
    optimizer = torch.optim.AdamW(unet.parameters(), lr=peak, weight_decay=0.01, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    times = torch.tensor(TIME_IDS).repeat(batch, 1)
    start, step, running = time.monotonic(), 0, 1.0
    while (spent := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent)))
        pick = torch.randint(len(pool), (batch,), generator=generator)
        drop = torch.rand(batch, generator=generator)
        chosen = torch.where((drop < UNCONDITIONAL / 2)[:, None], empty, ids[pick])
        states, pooled = side(chosen)
        zeroed = ((drop >= UNCONDITIONAL / 2) & (drop < UNCONDITIONAL)).float()
        states, pooled = states * (1 - zeroed)[:, None, None], pooled * (1 - zeroed)[:, None]
        clean = latents[pick]
        noise = torch.randn(clean.shape, generator=generator)
        when = torch.where(
            torch.rand(batch, generator=generator) < 0.5,
            torch.randint(1000, (batch,), generator=generator),
            torch.randint(*FOCUS, (batch,), generator=generator),
        )
        noisy, target = scheduler.add_noise(clean, noise, when), scheduler.get_velocity(clean, noise, when)
        with torch.autocast("cpu", torch.bfloat16):
            guess = unet(noisy, when, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": times}).sample
        loss = functional.mse_loss(guess.float(), target)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        keep = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - keep)
        running = 0.99 * running + 0.01 * float(loss.detach())
        if step % 100 == 0:
            say(f"unet step {step}: loss {running:.4f}, {spent:.0%} of the time")
        if step % 300 == 0:
            average.save_pretrained(out / "unet")
    average.save_pretrained(out / "unet")
    say(f"unet: {step} steps")
