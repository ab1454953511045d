"""Train tinyworld's VAE: 64 px images to 16 x 16 x 4 latents and back."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from generation.tinyworld.pools import Model, to_tensor, vary

KL_WEIGHT = 3e-4
EDGE_WEIGHT = 0.5
PEAK_RATE = 1.5e-3


def new_vae(seed: int) -> Model:
    """Return an untrained autoencoder of 0.8 M parameters that shrinks images four times."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKL(
            block_out_channels=(24, 48, 64),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=64,
            mid_block_add_attention=False,
        )


def train_vae(
    pictures: NDArray[np.uint8],
    out: Path,
    minutes: float,
    say: Callable[[str], None],
    decoder_only: bool = False,
    batch: int = 8,
    seed: int = 3,
) -> float:
    """Train for `minutes`, write `out`/vae, and return the mean absolute error on [-1, 1] pixels.

    Resumes from `out`/vae if it exists; with `decoder_only` its latents stay as they are, so that a UNet can be trained
    on them meanwhile. The loss is L1 on pixels and on their differences to the neighbours (so that textures stay sharp), and
    a small KL term.
    """
    from diffusers import AutoencoderKL

    folder = out / "vae"
    vae: Model = AutoencoderKL.from_pretrained(folder) if folder.is_dir() else new_vae(seed)
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    optimizer = torch.optim.AdamW((p for p in vae.parameters() if p.requires_grad), lr=PEAK_RATE, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    images = to_tensor(pictures)
    start, step, error = time.monotonic(), 0, 1.0
    while (spent := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / 50) * max(0.02, 1 - spent)
        real = vary(images[torch.randint(len(images), (batch,), generator=generator)], generator)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(real).latent_dist
            drawn = vae.decode(posterior.sample(generator=generator)).sample.float()
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        flat = functional.l1_loss(drawn, real)
        edges = torch.stack([functional.l1_loss(drawn.diff(dim=axis), real.diff(dim=axis)) for axis in (2, 3)]).sum()
        (flat + EDGE_WEIGHT * edges + KL_WEIGHT * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        error = 0.98 * error + 0.02 * float(flat.detach())
        step += 1
        if step % 50 == 0:
            say(f"vae step {step}: L1 {error:.4f}, {spent:.0%} of the time")
    if not decoder_only:
        with torch.inference_mode():
            latents = torch.cat([vae.encode(chunk).latent_dist.mode() for chunk in torch.split(images[:512], 64)])
        vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    vae.save_pretrained(folder)
    return error
