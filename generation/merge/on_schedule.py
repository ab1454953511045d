"""Merges of weights whose LoRAs have scheduled weights: folded again at every step at which a weight changes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from evalkit.errors import UserError
from generation.families import denoiser, in_denoiser
from generation.merge import on_weights
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Setup, WeightedLora, at_work, check_foldable, dense, folded, layers_of, scheduled, weight_of
from generation.pipeline import Pipeline


def check_schedule(setup: Setup, loras: Sequence[WeightedLora]) -> None:
    """Raise a UserError if a method calibrates once and a weight is scheduled."""
    if setup.method.acts_on == "calibrated" and scheduled(loras):
        raise UserError(
            f"{setup.method.name}: weight.schedule: it calibrates once for all steps; remove the schedule, or use a method "
            "on weights, outputs or steps"
        )


@contextmanager
def refolded(setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState) -> Iterator[None]:
    """Keep the merge of the current step in the weights while a block runs; restore every weight bit by bit.

    A LoRA whose multiplier is 0 is inactive at that step, as one of weight 0 is. The merge is computed again only if a
    multiplier differs from the step before.
    """
    active = at_work(loras)
    tables = [weighted.multipliers(state.steps) for weighted in active]
    unscheduled = on_weights.changes(setup, pipeline, active, state)
    for layer in layers_of(active):
        check_foldable(layer, weight_of(pipeline, layer))
    originals = {layer: weight_of(pipeline, layer).detach().clone() for layer in layers_of(active) if in_denoiser(layer)}
    current: list[float] = []

    def refold(module: nn.Module, args: tuple[Any, ...]) -> None:
        multipliers = [table[state.step()] for table in tables]
        if state.bare or multipliers == current:
            return
        current[:] = multipliers
        stepped = [weighted.times(multiplier) for weighted, multiplier in zip(active, multipliers, strict=True)]
        changes = on_weights.changes(setup, pipeline, stepped, state)
        with torch.no_grad():
            for layer, before in originals.items():
                weight = weight_of(pipeline, layer)
                if layer in changes:
                    weight.copy_(before.float() + dense(changes[layer](weight.device)).view_as(before))
                else:
                    weight.copy_(before)

    text = {layer: change for layer, change in unscheduled.items() if not in_denoiser(layer)}
    with folded(pipeline, text) as pairs:
        state.folded = [*pairs, *((weight_of(pipeline, layer), before) for layer, before in originals.items())]
        hook = denoiser(pipeline).register_forward_pre_hook(refold)
        try:
            yield
        finally:
            hook.remove()
            state.folded = []
            with torch.no_grad():
                for layer, before in originals.items():
                    weight_of(pipeline, layer).copy_(before)
