"""Batch-invariant layers on the CPU: an image has the same bits in every batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.families import denoiser, family_of
from generation.pipeline import Pipeline


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b; on the CPU, a row of a matrix [images, inputs] has the same bits at every number of rows.

    BLAS uses different kernels, which round differently, for products of few rows. Layers on sequences have many rows per image
    and no such change (tested); embeddings of time and size have one row per image.
    """
    if x.dim() == 2 and x.shape[0] > 1 and x.device.type == "cpu":
        return torch.cat([functional.linear(row, weight, bias) for row in torch.split(x, 1)])
    return functional.linear(x, weight, bias)


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the convolution of `conv` with another weight; on the CPU image by image if oneDNN's kernel depends on the batch.

    oneDNN chooses kernels for 1 x 1 windows and for few channels by batch size, and they round differently.
    """

    def convolved(images: Tensor) -> Tensor:
        return functional.conv2d(images, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    depends_on_batch = weight.shape[2:] == (1, 1) or weight.shape[1] < 16
    if depends_on_batch and x.shape[0] > 1 and x.device.type == "cpu":
        return torch.cat([convolved(image) for image in torch.split(x, 1)])
    return convolved(x)


def lora_output(module: nn.Module, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return the output of a LoRA on a layer: factors `down` [rank, inputs(, height, width)] and `up` [outputs, rank]."""
    if not isinstance(module, nn.Conv2d):
        return linear(linear(x, down), up)
    hidden = convolve(module, x, down)
    outputs = hidden.flatten(2).transpose(1, 2) @ up.T
    return outputs.transpose(1, 2).reshape(hidden.shape[0], -1, *hidden.shape[2:])


@contextmanager
def batch_invariant(pipeline: Pipeline) -> Iterator[None]:
    """Compute text encoders and denoiser with `linear` and `convolve` while a block runs; the VAE decodes image by image."""
    changed: list[Any] = []
    parts = (*family_of(pipeline).text_encoders(pipeline).values(), denoiser(pipeline))
    for layer in (layer for part in parts for layer in part.modules()):
        if type(layer) is nn.Linear:
            layer.forward = partial(_linear, layer)  # type: ignore[method-assign]
        elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
            layer.forward = partial(_convolve, layer)  # type: ignore[method-assign]
        else:
            continue
        changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            layer.__dict__.pop("forward", None)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias)


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return convolve(layer, x, layer.weight, layer.bias)
