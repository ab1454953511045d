"""Keeps an image the same whatever else is in its batch, on the CPU: one row at a time where rows are whole images."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.pipeline import Pipeline, components


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, on the CPU with the same bits for a row of a matrix [rows, inputs] whatever the number of rows.

    BLAS takes other paths, which round otherwise, for products of a few rows. Layers on sequences have many rows per image
    and no such jump (a test holds this); embeddings of time and size have one.
    """
    if x.dim() == 2 and x.device.type == "cpu" and x.shape[0] > 1:
        return torch.cat([functional.linear(row, weight, bias) for row in x.split(1)])
    return functional.linear(x, weight, bias)


@contextmanager
def steady_rows(pipeline: Pipeline) -> Iterator[None]:
    """Compute the pipeline's layers on one row per image with `linear` while a block runs."""

    def again(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if output.dim() != 2 or output.shape[0] == 1 or output.device.type != "cpu":
            return None
        return linear(args[0], module.weight, module.bias)  # type: ignore[arg-type]

    layers = [layer for part in components(pipeline).values() for layer in part.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(again) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
