"""Changes of weights that a LoRA file contains: low-rank factors, or any other change computed when it is used."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Factors:
    """Low-rank change of one layer's weight, up @ down.

    `down` is [rank, inputs] or, for a convolution, [rank, inputs, height, width]; `up` is [outputs, rank].
    """

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        """Return the number of rows of `down`."""
        return self.down.shape[0]

    def dense(self) -> Tensor:
        """Return the change of the layer's weight, in that weight's shape."""
        return (self.up @ self.down.flatten(1)).view(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True, eq=False)
class DenseChange:
    """Change of one weight, norm or bias that no pair of small factors represents, such as LoHa, LoKr, DoRA or OFT.

    `compute` returns it in float32 on the CPU, in the weight's `shape`, each time it is called: files of LyCORIS are small, but
    their changes are as large as the model. DoRA, OFT and IA3 depend on the base weight, so `compute` must run before the layer
    is modified.
    """

    form: str
    shape: tuple[int, ...]
    compute: Callable[[], Tensor]

    @property
    def rank(self) -> int:
        """Return the rank of `factors`, the largest that the shape allows."""
        return 1 if self.vector else min(self.shape[0], math.prod(self.shape[1:]))

    @property
    def vector(self) -> bool:
        """Return whether a bias or a norm is changed instead of a weight."""
        return len(self.shape) == 1

    def factors(self) -> Factors:
        """Return the change as exact factors, one of them an identity; a vector of n becomes [n, 1] times [1, 1]."""
        change = self.compute()
        if change.dim() == 1:
            return Factors(torch.ones(1, 1), change[:, None])
        outputs, inputs = change.shape[0], change[0].numel()
        if outputs <= inputs:
            return Factors(change, torch.eye(outputs))
        return Factors(torch.eye(inputs).view(inputs, *change.shape[1:]), change.flatten(1))


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file: raw factors by layer ("unet.mid_block...to_q"), other changes, and the scale alpha / rank of all layers.

    The name of a layer whose bias or norm is changed ends in the parameter's name ("unet.conv_in.bias").
    """

    path: Path
    sha256: str
    factors: Mapping[str, Factors]
    scales: Mapping[str, float]
    # metadata of the file's header, as text by key
    header: Mapping[str, str] = field(default_factory=dict)
    dense_changes: Mapping[str, DenseChange] = field(default_factory=dict)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Return the names of all changed layers, sorted."""
        return tuple(sorted({*self.factors, *self.dense_changes}))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of changed biases and norms, which no hook on a layer's output can represent."""
        return tuple(name for name in self.layers if name in self.dense_changes and self.dense_changes[name].vector)

    def rank(self, layer: str) -> int:
        """Return the rank of a layer's change; the largest possible for other changes than factors."""
        return (self.factors.get(layer) or self.dense_changes[layer]).rank

    def inputs(self, layer: str) -> int:
        """Return the number of inputs of a layer, those of a convolution's window counted one by one."""
        if layer in self.factors:
            return self.factors[layer].down[0].numel()
        return math.prod(self.dense_changes[layer].shape[1:])

    def part(self, layer: str, weight: float = 1.0) -> Factors:
        """Return the change of a layer as float32 factors, `weight * alpha / rank` multiplied into `up`."""
        if layer in self.dense_changes:
            change = self.dense_changes[layer].factors()
            return Factors(change.down, change.up * weight)
        raw = self.factors[layer]
        return Factors(raw.down.float(), raw.up.float() * (weight * self.scales[layer]))
