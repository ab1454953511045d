"""Weights that change over the steps: their values, and the model's weights at every step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from evalkit.errors import UserError
from generation.families import family_of
from generation.lora.layer_weights import LayerWeights, WeightSchedule
from generation.merge.apply import Merge
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora, layers_of, weight_of
from generation.pipeline import Pipeline, quiet
from generation.seeds import initial_noise
from tests.merging import loras_of

STEPS = 4


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [1, 1, 1, 1]),
        ({"end": 0}, [1, 2 / 3, 1 / 3, 0]),
        ({"start": 0, "end": 2, "curve": "cosine"}, [0, 0.5, 1.5, 2]),
        ({"start_percent": 0.25, "end_percent": 0.75}, [0, 1, 1, 0]),
        ({"start": 0.2, "end": 0.6, "start_percent": 0.5}, [0, 0, 0.2, 0.6]),
        ({"start_percent": 0.3, "end_percent": 0.4}, [0, 0, 0, 0]),
    ],
)
def test_multipliers(schedule: dict[str, Any], expected: list[float]) -> None:
    assert WeightSchedule(**schedule).multipliers(4) == pytest.approx(expected)


def test_a_schedule_that_never_acts_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"start_percent = 0\.5 is not below end_percent = 0\.5"):
        WeightSchedule(start_percent=0.5, end_percent=0.5)


def weights(**schedule: Any) -> LayerWeights:
    return LayerWeights(schedule=WeightSchedule(**schedule))


def loras(world: Path, pipeline: Pipeline, *scheduled: float | LayerWeights) -> list[WeightedLora]:
    plain = loras_of(world, pipeline, "star", "ring")
    return [
        WeightedLora(one.lora, weight, one.place, one.words) for one, weight in zip(plain, scheduled, strict=False)
    ]  # fmt: skip


def sampled(
    pipeline: Pipeline, given: list[WeightedLora], method: str, watch: str = "", **parameters: Any
) -> tuple[np.ndarray[Any, Any], list[Tensor]]:
    """Return an image in levels, and the weight of a layer at each call of the denoiser."""
    found, seen = MERGE_METHODS[method], []
    noise = initial_noise(3, family_of(pipeline).noise_shape(pipeline, 16, 16))[None]
    state = SamplingState(pipeline, STEPS)
    keep = lambda *_: seen.append(weight_of(pipeline, watch).clone()) if watch else None  # noqa: E731
    try:
        with torch.no_grad(), quiet(), Merge(found, found.settings(parameters), seed=1).applied(pipeline, given, state):
            hook = pipeline.unet.register_forward_pre_hook(keep)
            state.begin([7])
            image = pipeline(
                prompt=["star"], negative_prompt=[""], guidance_scale=5.0, num_inference_steps=STEPS, width=16, height=16,
                latents=noise, output_type="np",
            ).images[0]  # fmt: skip
            hook.remove()
    finally:
        state.close()
    return np.round(image * 255).astype(int), seen


def test_weights_of_every_step_are_those_of_a_merge_at_its_weight(world: Path, sdxl: Pipeline) -> None:
    given = loras(world, sdxl, weights(start=1, end=0), 0.5)
    layers = [layer for layer in given[0].layers if layer.startswith("unet.")]
    before = {layer: weight_of(sdxl, layer).clone() for layer in layers_of(given)}
    seen = sampled(sdxl, given, "ties", layers[0], density=0.4)[1]
    for step, multiplier in enumerate([1, 2 / 3, 1 / 3, 0]):
        expected = sampled(sdxl, loras(world, sdxl, multiplier, 0.5), "ties", layers[0], density=0.4)[1][step]
        assert torch.allclose(seen[step], expected, atol=1e-6)
    assert not torch.equal(seen[0], seen[1])
    assert all(torch.equal(weight_of(sdxl, layer), weight) for layer, weight in before.items())


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("direct", {}), ("mc_dropout", {"p": 0.0}), ("mc_dropout", {"p": 0.0, "preset": "static"}), ("lora_composite", {})],
)
def test_a_constant_schedule_is_a_weight_and_a_part_is_not(
    method: str, parameters: dict[str, Any], world: Path, sdxl: Pipeline
) -> None:
    text = {"text_encoder": 0.5, "text_encoder_2": 0.5}
    constant = LayerWeights(schedule=WeightSchedule(start=0.5, end=0.5), **text)
    image = sampled(sdxl, loras(world, sdxl, constant), method, **parameters)[0]
    assert np.abs(image - sampled(sdxl, loras(world, sdxl, 0.5), method, **parameters)[0]).max() <= 1
    # the kinds agree on a schedule that acts in the second half only
    late = loras(world, sdxl, weights(start_percent=0.5, start=3, end=3))
    image = sampled(sdxl, late, method, **parameters)[0]
    assert np.abs(image - sampled(sdxl, late, "direct")[0]).max() <= 1
    assert np.abs(image - sampled(sdxl, loras(world, sdxl, 3.0), method, **parameters)[0]).max() > 1


def test_calibrated_merges_and_schedules_of_no_step_are_refused(world: Path, sdxl: Pipeline) -> None:
    with pytest.raises(UserError, match=r"regmean: weight\.schedule: it calibrates once for all steps"):
        sampled(sdxl, loras(world, sdxl, weights(end=0), 1.0), "regmean", calibration_steps=1)
    with pytest.raises(UserError, match=r"star\.safetensors: weight\.schedule is 0 at all 4 steps; widen it"):
        sampled(sdxl, loras(world, sdxl, weights(start_percent=0.3, end_percent=0.4)), "direct")
