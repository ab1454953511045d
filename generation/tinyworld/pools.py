"""Pools of rendered scenes that the training scripts draw from, made once from a seed."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generation.tinyworld.markings import draw_look
from generation.tinyworld.scene import BACKGROUNDS, draw_poses, draw_scene, loose_caption, paint, render

# Models and tokenizers of diffusers, transformers, open_clip and timm, which ship no types.
Model: TypeAlias = Any


@dataclass(frozen=True)
class Pool:
    """Rendered scenes: `images` uint8 (n, 64, 64, 3) and one caption each."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


def draw_pool(count: int, seed: int, loose: bool = True, two: float = 0.4) -> Pool:
    """Return `count` training scenes; image i depends on (seed, i) alone. Takes about 2 ms a scene."""
    images = np.empty((count, 64, 64, 3), np.uint8)
    captions = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        scene = draw_scene(rng, two)
        images[index] = render(scene, rng)
        captions.append(loose_caption(scene, rng) if loose else scene.caption)
    return Pool(images, tuple(captions))


def draw_odd_objects(count: int, seed: int) -> NDArray[np.uint8]:
    """Return images of single objects in any colours and markings, uint8 (n, 64, 64, 3); image i depends on (seed, i) alone."""
    grounds = list(BACKGROUNDS.values())
    images = np.empty((count, 64, 64, 3), np.uint8)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        images[index] = paint((draw_look(rng),), draw_poses(1, rng), grounds[rng.integers(len(grounds))])
    return images


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Return images as float (n, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def vary(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with colours swapped, turned, and pieces of each other pasted in.

    An autoencoder that sees these learns pixels, not the world, so looks that no scene shows survive it.
    """
    images = images.clone()
    count = len(images)
    order = torch.randperm(3, generator=generator)
    third, half = count // 3, count // 2
    images[:third] = images[:third][:, order]
    images[third:half] = torch.rot90(images[third:half], int(torch.randint(1, 4, (1,), generator=generator)), (2, 3))
    x, y, size = (int(torch.randint(low, high, (1,), generator=generator)) for low, high in ((0, 32), (0, 32), (8, 32)))
    pieces = images[torch.randperm(count, generator=generator)]
    quarter = count // 4
    images[:quarter, :, y : y + size, x : x + size] = pieces[:quarter, :, y : y + size, x : x + size]
    return images


def token_ids(tokenizer: Model, captions: tuple[str, ...] | list[str]) -> Tensor:
    """Return the token ids of captions, padded as the pipeline pads: (n, tokenizer.model_max_length)."""
    encoded = tokenizer(
        list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded.input_ids
    return ids
