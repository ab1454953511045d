"""Shared types of all merges: weighted LoRAs, a method with its settings, and changes folded into a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.families import in_denoiser
from generation.lora.factors import Factors, Lora
from generation.lora.layer_weights import LayerWeights, WeightSchedule, weight_at
from generation.merge.method import MergeMethod
from generation.pipeline import Pipeline, components

# Computes the change of a layer's weight on a device, in float32; called lazily, so memory holds one layer at a time.
Change: TypeAlias = Callable[[torch.device], Factors | Tensor]
# Receives a layer, its LoRAs' outputs and their multipliers, lists of [rows, channels]; for diagnostics and tests.
Observer: TypeAlias = Callable[[str, list[Tensor], list[Tensor]], None]


@dataclass(frozen=True)
class WeightedLora:
    """A LoRA with its weight, its position in the case's list of concepts, and its concept's words in a prompt."""

    lora: Lora
    weight: float | LayerWeights
    place: int
    words: str = ""
    # the schedule's multiplier of the weights in the denoiser
    multiplier: float = 1.0

    @property
    def schedule(self) -> WeightSchedule | None:
        """Return how the weight changes over the steps, None if it does not."""
        return self.weight.schedule if isinstance(self.weight, LayerWeights) else None

    def multipliers(self, steps: int) -> list[float]:
        """Return the multiplier of the weights in the denoiser at each step.

        Raises:
            UserError: the LoRA would act at no step.
        """
        if self.schedule is None:
            return [1.0] * steps
        values = self.schedule.multipliers(steps)
        if not any(values):
            raise UserError(f"{self.lora.path.name}: weight.schedule is 0 at all {steps} steps; widen it, or give more steps")
        return values

    def times(self, multiplier: float) -> "WeightedLora":
        """Return the LoRA with its weights in the denoiser multiplied."""
        return replace(self, multiplier=multiplier)

    def weight_in(self, layer: str) -> float:
        """Return the weight of the LoRA in a layer."""
        return weight_at(self.weight, layer) * (self.multiplier if in_denoiser(layer) else 1.0)

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the layers that the LoRA adapts at another weight than 0."""
        return tuple(layer for layer in self.lora.layers if self.weight_in(layer) != 0)

    def part(self, layer: str, device: torch.device) -> Factors:
        """Return the factors of a layer in float32 on a device, weight * alpha / rank multiplied into `up`."""
        part = self.lora.part(layer, self.weight_in(layer))
        return Factors(part.down.to(device), part.up.to(device))


@dataclass(frozen=True)
class Setup:
    """A method with its settings, and the seed of all its randomness."""

    method: MergeMethod
    settings: Any
    seed: int
    # of compressing methods, by layer: squared norm kept, squared norm of the exact sum
    energies: dict[str, tuple[float, float]] = field(default_factory=dict)
    # values that all layers of a merge share, by what they are
    shared: dict[tuple[str, ...], float] = field(default_factory=dict)


def layers_of(loras: Sequence[WeightedLora]) -> dict[str, list[WeightedLora]]:
    """Return, for every layer that some LoRA adapts, the LoRAs that do, in the order of `loras`; layers sorted by name."""
    adapted = [(weighted, set(weighted.layers)) for weighted in loras]
    names = sorted(set().union(*(layers for _, layers in adapted)))
    return {name: [weighted for weighted, layers in adapted if name in layers] for name in names}


def at_work(loras: Sequence[WeightedLora]) -> list[WeightedLora]:
    """Return the active LoRAs: those whose weight is not 0 in every layer."""
    return [weighted for weighted in loras if weighted.layers]


def scheduled(loras: Sequence[WeightedLora]) -> bool:
    """Return whether the weight of a LoRA changes over the steps."""
    return any(weighted.schedule is not None for weighted in loras)


def module_of(pipeline: Pipeline, layer: str) -> Any:  # noqa: ANN401 - a Linear or a Conv2d
    """Return the module with a layer's name."""
    component, _, name = layer.partition(".")
    return components(pipeline)[component].get_submodule(name)


def weight_of(pipeline: Pipeline, layer: str) -> Any:  # noqa: ANN401 - a torch parameter
    """Return the parameter that a change of a layer is added to: its weight, or the bias or norm that the name ends in."""
    component, _, name = layer.partition(".")
    part = components(pipeline)[component]
    try:
        return part.get_submodule(name).weight
    except AttributeError:
        return part.get_parameter(name)


def is_vector(pipeline: Pipeline, layer: str) -> bool:
    """Return whether a layer's name is that of a bias or a norm."""
    weight: Tensor = weight_of(pipeline, layer)
    return weight.dim() == 1


def check_forms(setup: Setup, loras: Sequence[WeightedLora]) -> None:
    """Check that the method can merge changes that are not low-rank factors, if there are any.

    Raises:
        UserError: it acts on outputs or factors, which a LoRA's form does not have.
    """
    method = setup.method
    for weighted in at_work(loras):
        lora = weighted.lora
        if lora.parameters and method.acts_on != "weights":
            raise UserError(
                f"{lora.path.name}: changes {lora.parameters[0]}, which {method.name} cannot merge, since it acts on layers' "
                "outputs; merge with a method on weights"
            )
        whole = [name for name, change in lora.dense_changes.items() if not change.vector]
        if whole and method.factors_reason and getattr(setup.settings, "rank", None) is None:
            raise UserError(
                f"{lora.path.name}: {whole[0]} is a {lora.dense_changes[whole[0]].form} change, not low-rank factors; "
                f"{method.name} cannot merge it: {method.factors_reason}"
            )


def dense(change: Factors | Tensor) -> Tensor:
    """Return a change of a layer in the shape of the layer's weight."""
    return change.dense() if isinstance(change, Factors) else change


def check_foldable(layer: str, weight: Tensor) -> None:
    """Check that a change can be added to a weight in place.

    Raises:
        UserError: the weight is quantised or offloaded. A sum would be rounded to nothing, or be lost, without an error.
    """
    if weight.is_meta:
        raise UserError(
            f"{layer}: its weight is not in memory (sequential offload), so that no change can be added to it; load the model "
            "without sequential offload, or merge with a method on outputs or steps"
        )
    if not weight.is_floating_point() or weight.dtype.itemsize < 2:
        raise UserError(
            f"{layer}: its weight is quantised ({str(weight.dtype).removeprefix('torch.')}), and a change would be lost in "
            "rounding; give a base model in float32, float16 or bfloat16, or merge with a method on outputs or steps"
        )


@contextmanager
def folded(pipeline: Pipeline, changes: Mapping[str, Change]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Add a change to the weight of each layer; yield (weight, original copy) pairs and restore the originals at the end.

    The sum is computed in float32 and rounded once to the weight's own type. Subtracting the change afterwards would leave
    rounding errors.
    """
    originals: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for layer, change in changes.items():
                weight = weight_of(pipeline, layer)
                check_foldable(layer, weight)
                originals.append((weight, weight.clone()))
                weight.copy_(weight.float() + dense(change(weight.device)).view_as(weight))
        yield originals
    finally:
        with torch.no_grad():
            for weight, before in originals:
                weight.copy_(before)


@contextmanager
def instead(module: Any, forward: Callable[..., Any]) -> Iterator[None]:  # noqa: ANN401 - diffusers ships no types
    """Replace a module's forward by `forward` while a block runs."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        module.__dict__.pop("forward")
        if before is not None:
            module.forward = before
