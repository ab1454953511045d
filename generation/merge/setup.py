"""What every kind of merge starts from: LoRAs with their weights, a method with its settings, and where all of it acts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from generation.lora_file import Factors, Lora
from generation.merge.method import MergeMethod
from generation.pipeline import Pipeline, components

# Makes the change of a layer's weight on a device, in float32; made only when it is wanted, so one layer is held at a time.
Change: TypeAlias = Callable[[torch.device], Factors | Tensor]
# Gets a layer, its LoRAs' outputs, and what each is multiplied with: lists of [rows, channels]; for diagnostics and proofs.
Observer: TypeAlias = Callable[[str, list[Tensor], list[Tensor]], None]


@dataclass(frozen=True)
class WeightedLora:
    """A LoRA with its weight, its place in the case's list of concepts, and its concept's words in a prompt."""

    lora: Lora
    weight: float
    place: int
    words: str = ""

    def part(self, layer: str, device: torch.device) -> Factors:
        """Return the factors of a layer in float32 on a device, weight * alpha / rank multiplied into `up`."""
        part = self.lora.part(layer, self.weight)
        return Factors(part.down.to(device), part.up.to(device))


@dataclass(frozen=True)
class Setup:
    """A method with its settings, and the seed all its chance comes from."""

    method: MergeMethod
    settings: Any
    seed: int
    # what compressing methods report, by layer: squared norm kept, squared norm of the exact sum
    energies: dict[str, tuple[float, float]] = field(default_factory=dict)


def layers_of(loras: Sequence[WeightedLora]) -> dict[str, list[WeightedLora]]:
    """Return, for every layer that some LoRA adapts, the LoRAs that do, in the order of `loras`; layers sorted by name."""
    names = {name for weighted in loras for name in weighted.lora.factors}
    return {name: [weighted for weighted in loras if name in weighted.lora.factors] for name in sorted(names)}


def at_work(loras: Sequence[WeightedLora]) -> list[WeightedLora]:
    """Return the LoRAs whose weight is not zero: the others are not there, whatever a method would make of their zeros."""
    return [weighted for weighted in loras if weighted.weight != 0]


def module_of(pipeline: Pipeline, layer: str) -> Any:  # noqa: ANN401 - a Linear or a Conv2d
    """Return the module a layer's name stands for."""
    component, _, name = layer.partition(".")
    return components(pipeline)[component].get_submodule(name)


def dense(change: Factors | Tensor) -> Tensor:
    """Return a change of a layer in the shape of the layer's weight."""
    return change.dense() if isinstance(change, Factors) else change


@contextmanager
def folded(pipeline: Pipeline, changes: Mapping[str, Change]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Add a change to the weight of each layer; put copies of the old weights, which it yields, back at the end.

    Adding is done in float32 and rounded once to the weight's own type. Subtracting afterwards would leave rounding behind.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for layer, change in changes.items():
                weight = module_of(pipeline, layer).weight
                kept.append((weight, weight.clone()))
                weight.copy_(weight.float() + dense(change(weight.device)))
        yield kept
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


@contextmanager
def instead(module: Any, forward: Callable[..., Any]) -> Iterator[None]:  # noqa: ANN401 - diffusers ships no types
    """Let a module be computed by `forward` while a block runs."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        module.__dict__.pop("forward")
        if before is not None:
            module.forward = before
