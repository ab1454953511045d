"""Where randomness comes from: the noise of an image from its seed alone, masks from the arm and the image."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from evalkit.io.atomic_files import sha256_bytes


def initial_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Return the noise an image starts from, float32 on the CPU.

    It depends on `seed` and `shape` alone: not on arm, batch, device, or what was drawn before.
    """
    return torch.randn(tuple(shape), generator=Generator("cpu").manual_seed(seed), dtype=torch.float32)


def noise_sha256(noise: Tensor) -> str:
    """Return the sha256 of the noise's float32 bytes in C order, little-endian."""
    return sha256_bytes(noise.contiguous().numpy().astype("<f4", copy=False).tobytes())


def step_generator(seed: int) -> Generator:
    """Return the generator for noise that a stochastic sampler adds on the way; equal across arms, like the first noise."""
    return Generator("cpu").manual_seed(derived("sampler", seed))


def derived(*parts: str | int) -> int:
    """Return a whole number in 0 .. 2^63 - 1 derived from `parts`, the same on every machine and in every run."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def mask_seed(run_seed: int, arm: str) -> int:
    """Return the seed of an arm's masks: arms never share masks, so no arm's luck is another's."""
    return derived("masks", run_seed, arm)


def image_key(case: str, seed: int) -> int:
    """Return the identity of an image in its masks: its case and seed, not its position in a batch."""
    return derived("image", case, seed)
