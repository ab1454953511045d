"""Base models whose weights cannot take a change: merges of weights refuse them, and merges of outputs do not touch them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from evalkit.errors import UserError
from generation.lora.layer_weights import LayerWeights, WeightSchedule
from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora, module_of
from generation.pipeline import Pipeline
from tests.merging import loras_of

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@contextmanager
def replaced(pipeline: Pipeline, weight: Tensor) -> Iterator[None]:
    """Give one layer another weight while a block runs."""
    module = module_of(pipeline, LAYER)
    before = module.weight
    module.weight = nn.Parameter(weight, requires_grad=False)
    try:
        yield
    finally:
        module.weight = before


@pytest.mark.parametrize(
    ("dtype", "device", "message"),
    [
        (torch.int8, "cpu", r"to_q: its weight is quantised \(int8\), and a change would be lost"),
        (torch.uint8, "cpu", r"quantised \(uint8\)"),
        (torch.float8_e4m3fn, "cpu", r"quantised \(float8_e4m3fn\)"),
        (torch.float32, "meta", r"to_q: its weight is not in memory \(sequential offload\)"),
    ],
)
@pytest.mark.parametrize("schedule", [None, WeightSchedule(end=0)])
def test_weights_that_can_not_take_a_change_are_refused(
    dtype: torch.dtype, device: str, message: str, schedule: WeightSchedule | None, world: Path, sdxl: Pipeline
) -> None:
    (star,) = loras_of(world, sdxl, "star")
    other = module_of(sdxl, LAYER.replace("to_q", "to_k")).weight
    before, state, method = other.clone(), SamplingState(sdxl, 2), MERGE_METHODS["direct"]
    given = [WeightedLora(star.lora, LayerWeights(schedule=schedule), 0)]
    try:
        with (
            replaced(sdxl, torch.zeros(32, 32, device=device).to(dtype)),
            pytest.raises(UserError, match=message),
            Merge(method, method.settings({}), seed=0).applied(sdxl, given, state),
        ):
            pass
    finally:
        state.close()
    assert torch.equal(other, before)


def test_a_form_that_needs_a_quantised_weight_is_refused(tmp_path: Path, sdxl: Pipeline) -> None:
    name = f"lora_unet_{LAYER.removeprefix('unet.').replace('.', '_')}"
    state = {"lora_down.weight": torch.ones(2, 32), "lora_up.weight": torch.ones(32, 2), "dora_scale": torch.ones(32, 1)}
    save_file({f"{name}.{key}": value for key, value in state.items()}, tmp_path / "x.safetensors")
    with (
        replaced(sdxl, torch.zeros(32, 32, dtype=torch.int8)),
        pytest.raises(UserError, match="the base weight is quantised, and this form of adapter depends on it"),
    ):
        load_lora(tmp_path / "x.safetensors", sdxl)
