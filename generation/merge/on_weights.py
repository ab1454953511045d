"""Merges of weights: one change per layer, computed from the LoRAs' factors."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.method_inputs import Layer
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Change, Setup, WeightedLora, at_work, layers_of
from generation.pipeline import Pipeline


def changes(setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState) -> Mapping[str, Change]:
    """Return the method's result for each layer that some LoRA adapts."""
    active = at_work(loras)
    return {layer: partial(_change, setup, active, layer, layer_loras) for layer, layer_loras in layers_of(active).items()}


def layer_inputs(setup: Setup, loras: Sequence[WeightedLora], layer: str, layer_loras: Sequence[WeightedLora]) -> Layer:
    """Return the `Layer` argument for a layer that the LoRAs `layer_loras` adapt, among all active `loras`."""
    return Layer(
        layer,
        setup.seed,
        weights=[weighted.weight_in(layer) for weighted in loras],
        places=[weighted.place for weighted in layer_loras],
        loras={weighted.place: weighted.lora for weighted in loras},
        energies=setup.energies,
        shared=setup.shared,
    )


def _change(
    setup: Setup, loras: Sequence[WeightedLora], layer: str, layer_loras: Sequence[WeightedLora], device: torch.device
) -> Factors | Tensor:
    parts = [weighted.part(layer, device) for weighted in layer_loras]
    merged: Factors | Tensor = setup.method.function(
        parts, layer_inputs(setup, loras, layer, layer_loras), **setup.settings.model_dump()
    )
    return merged
