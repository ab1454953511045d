"""Merges by denoising step: a table states which LoRAs act in a layer at each step."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from generation.batch_invariant import lora_output
from generation.families import denoiser, in_denoiser
from generation.lora.factors import Factors
from generation.merge.lowrank import side_by_side
from generation.merge.method_inputs import StepPlan
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Observer, Setup, WeightedLora, at_work, instead, layers_of, module_of, scheduled
from generation.pipeline import Pipeline


@contextmanager
def hooked(
    setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState, observe: Observer | None
) -> Iterator[None]:
    """Apply the LoRAs by the method's tables while a block runs.

    A table contains the multiplier of each LoRA's output, by denoiser pass, step and LoRA of the layer: [passes, steps,
    LoRAs]. Predictions of several passes are averaged. Text encoders run before the first step: they use the LoRAs that act
    there, in any pass.
    """
    active = at_work(loras)
    if not active:
        yield
        return
    layers = layers_of(active)
    by_place = {weighted.place: weighted for weighted in active}

    def part(layer: str, position: int) -> Factors:
        return by_place[position].part(layer, module_of(pipeline, layer).weight.device)

    places = {layer: [weighted.place for weighted in layer_loras] for layer, layer_loras in layers.items()}
    tables = dict(setup.method.function(StepPlan(state.steps, sorted(by_place), places, part), **setup.settings.model_dump()))
    for layer, layer_loras in layers.items():
        if scheduled(layer_loras) and in_denoiser(layer):
            tables[layer] = tables[layer] * torch.tensor([one.multipliers(state.steps) for one in layer_loras]).T
    clock = _Clock(state)
    with ExitStack() as stack:
        for layer, table in tables.items():
            parts = [part(layer, position) for position in places[layer]]
            hook = _StepHook(layer, parts, module_of(pipeline, layer), table, clock, observe)
            stack.callback(module_of(pipeline, layer).register_forward_hook(hook).remove)
        passes = max(table.shape[0] for table in tables.values())
        if passes > 1:
            stack.enter_context(_averaged(denoiser(pipeline), clock, passes))
        yield


@dataclass
class _Clock:
    """Selects the current row of a table."""

    state: SamplingState
    number: int = 0

    def gains(self, table: Tensor, component: str) -> tuple[float, ...]:
        now = table[self.number, self.state.step()] if component == self.state.family.denoiser else table[:, 0].amax(0)
        return tuple(now.tolist())


class _StepHook:
    """Adds the outputs of the currently active LoRAs to a layer's output."""

    def __init__(
        self, layer: str, parts: list[Factors], module: Any, table: Tensor, clock: _Clock, observe: Observer | None  # noqa: ANN401
    ) -> None:  # fmt: skip
        self.layer, self.parts, self.table, self.clock, self.observe = layer, parts, table, clock, observe
        self.component = layer.partition(".")[0]
        self.weight = module.weight
        self.acting = cache(self._acting)

    def _acting(self, gains: tuple[float, ...]) -> tuple[Tensor, Tensor] | None:
        """Return the concatenated factors of the active LoRAs, in the type of the layer's weight; None if there is none."""
        chosen = [Factors(part.down, part.up * gain) for part, gain in zip(self.parts, gains, strict=True) if gain != 0]
        if not chosen:
            return None
        merged = side_by_side(chosen)
        return merged.down.to(self.weight), merged.up.to(self.weight)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self.clock.state.bare:
            return output
        gains = self.clock.gains(self.table, self.component)
        acting = self.acting(gains)
        if self.observe is not None:
            channels = 1 if isinstance(module, nn.Conv2d) else -1
            pairs = [(part.down.to(self.weight), part.up.to(self.weight)) for part in self.parts]
            outputs = [lora_output(module, args[0], *pair) for pair in pairs]
            outputs = [y.movedim(channels, -1).flatten(0, -2) for y in outputs]
            self.observe(self.layer, outputs, [torch.full_like(y, gain) for y, gain in zip(outputs, gains, strict=True)])
        return output if acting is None else output + lora_output(module, args[0], *acting)


@contextmanager
def _averaged(module: Any, clock: _Clock, passes: int) -> Iterator[None]:  # noqa: ANN401 - diffusers ships no types
    """Replace the denoiser's prediction by the mean over the passes while a block runs."""
    forward = module.forward

    def mean(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - the denoiser's own signature
        guesses = []
        for clock.number in range(passes):
            given = forward(*args, **named)
            guesses.append(given[0])
        clock.number = 0
        if isinstance(guesses[0], list):
            # Z-Image predicts a list of images
            guess: Any = [torch.stack(images).mean(0) for images in zip(*guesses, strict=True)]
        else:
            guess = torch.stack(guesses).mean(0)
        return (guess,) if isinstance(given, tuple) else type(given)(sample=guess)

    with instead(module, mean):
        yield
