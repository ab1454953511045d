"""Calibrated merges: each against least squares done the slow way, and inside a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.lora.factors import Factors
from generation.merge import on_calibration
from generation.merge.apply import Merge
from generation.merge.calibration import Moments
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import dense, layers_of
from generation.pipeline import Pipeline
from tests.merging import INPUTS, RANKS, SHORT_SEARCH, changes, close, fitted, inputs, lora_parts, loras_of, plain_sum, same

CALIBRATED = tuple(name for name, method in MERGE_METHODS.items() if method.acts_on == "calibrated")
# Those that fit each layer by itself to the moments of what it saw.
LAYERWISE = tuple(name for name in CALIBRATED if MERGE_METHODS[name].needs != "columns")


def least_squares(parts: Sequence[Factors], seen: Sequence[Tensor]) -> Tensor:
    targets = [x.double() @ part.dense().double().T for x, part in zip(seen, parts, strict=False)]
    targets += [torch.zeros(len(x), parts[0].up.shape[0], dtype=torch.float64) for x in seen[len(parts) :]]
    return torch.linalg.lstsq(torch.cat(list(seen)).double(), torch.cat(targets)).solution.T


def off(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


@pytest.mark.parametrize(
    ("method", "parameters"), [("gradient_fusion", {"ridge": 1e-9}), ("regmean", {"shrink": 1, "ridge": 1e-9})]
)
@pytest.mark.parametrize("others", [0, 1])
def test_the_closed_form_is_least_squares(method: str, parameters: dict[str, Any], others: int) -> None:
    """Also where a LoRA of the case does not adapt the layer, and the merge shall do nothing to what it draws."""
    parts, seen = lora_parts(), inputs(loras=3 + others)
    result = fitted(method, parts, seen, **parameters)
    assert isinstance(result, Factors)
    assert result.rank == sum(RANKS)
    assert off(result.dense(), least_squares(parts, seen)) < 1e-3


def test_l_bfgs_goes_where_the_closed_form_is() -> None:
    parts, seen = lora_parts(), inputs()
    expected = least_squares(parts, seen)
    errors = [off(dense(fitted("gradient_fusion", parts, seen, solver="lbfgs", iterations=n)), expected) for n in (1, 4, 100)]
    assert errors[0] > errors[1] >= errors[2]
    assert errors[2] < 1e-3


def test_few_inputs_are_fitted_with_the_smallest_change() -> None:
    parts, seen = lora_parts(), inputs(count=4)
    result = fitted("gradient_fusion", parts, seen, ridge=1e-5)
    for x, part in zip(seen, parts, strict=True):
        assert off(x @ dense(result).T, x @ part.dense().T) < 1e-2
    assert off(dense(result), least_squares(parts, seen)) < 1e-2


def test_regmean_shrinks_what_is_off_the_diagonals() -> None:
    parts, seen = lora_parts(), inputs(loras=4)
    grams = [x.T.double() @ x.double() for x in seen]
    shrunk = [0.6 * gram + 0.4 * gram.diagonal().diag() for gram in grams]
    top = sum((part.dense().double() @ gram for part, gram in zip(parts, shrunk, strict=False)), torch.zeros(()))
    expected = top @ torch.linalg.inv(torch.stack(shrunk).sum(0))
    assert off(dense(fitted("regmean", parts, seen, shrink=0.6, ridge=1e-9)), expected) < 1e-3


def test_ssr_routes_hidden_activations_to_their_own_block() -> None:
    parts, seen = lora_parts(), inputs()
    stacked = torch.cat([part.down for part in parts]).double()
    hidden = [x.double() @ stacked.T for x in seen]
    routed = [z.clone() for z in hidden]
    starts = [0, *torch.tensor(RANKS).cumsum(0).tolist()]
    for number, z in enumerate(routed):
        z[:, : starts[number]] = 0
        z[:, starts[number + 1] :] = 0
    router = torch.linalg.lstsq(torch.cat(hidden), torch.cat(routed)).solution.T
    expected = torch.cat([part.up for part in parts], 1).double() @ router @ stacked
    assert off(dense(fitted("ssr", parts, seen, ridge=1e-9)), expected) < 1e-3


@pytest.mark.parametrize("method", LAYERWISE)
def test_inputs_that_no_two_loras_share_keep_every_lora(method: str) -> None:
    apart = [torch.eye(INPUTS)[number * 6 : number * 6 + 6] for number in range(3)]
    parts = [Factors(part.down @ x.T @ x, part.up) for part, x in zip(lora_parts(), apart, strict=True)]
    result = dense(fitted(method, parts, apart, ridge=1e-9))
    assert close(result, plain_sum(parts), atol=1e-3)


@pytest.mark.parametrize("method", LAYERWISE)
def test_one_lora_is_itself_on_what_it_saw(method: str) -> None:
    parts, seen = lora_parts((4,)), inputs(loras=1)
    assert off(dense(fitted(method, parts, seen, ridge=1e-9)), parts[0].dense()) < 1e-2


@pytest.mark.parametrize("method", CALIBRATED)
def test_the_order_of_loras_changes_nothing_in_a_model(method: str, world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring", weights=[1.0, 0.7])
    parameters = {"calibration_steps": 1, **SHORT_SEARCH.get(method, {})}
    one = changes(sdxl, loras, method, **parameters)
    other = changes(sdxl, loras[::-1], method, **parameters)
    assert all(torch.allclose(one[layer], other[layer], atol=1e-3, rtol=1e-3) for layer in one)
    assert set(one) == set(layers_of(loras))


@pytest.mark.parametrize("method", LAYERWISE)
def test_layers_watched_group_by_group_are_merged_the_same(
    method: str, world: Path, sdxl: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    loras = loras_of(world, sdxl, "moon", "star")
    at_once = changes(sdxl, loras, method, calibration_steps=1)
    monkeypatch.setattr(on_calibration, "MOMENTS", 40_000)
    assert same(changes(sdxl, loras, method, calibration_steps=1), at_once)


def test_a_convolution_sees_its_windows(sdxl: Pipeline) -> None:
    conv = torch.nn.Conv2d(3, 5, 3, padding=1, stride=2, bias=False)
    rng = torch.Generator().manual_seed(0)
    part = Factors(torch.randn(2, 3, 3, 3, generator=rng), torch.randn(5, 2, generator=rng))
    moments = Moments([part.down], hidden=False)
    x = torch.randn(2, 3, 8, 8, generator=rng)
    moments.watch(conv, (x,), 0)
    with torch.no_grad():
        conv.weight.copy_(part.dense())
        energy = conv(x).square().sum()
    delta = part.dense().flatten(1)
    assert torch.allclose((delta @ moments.total @ delta.T).trace(), energy, rtol=1e-4)


@pytest.mark.parametrize("method", CALIBRATED)
def test_a_concept_without_words_can_not_be_drawn(method: str, world: Path, sdxl: Pipeline) -> None:
    found, loras = MERGE_METHODS[method], loras_of(world, sdxl, "star", "ring", words=False)
    state = SamplingState(sdxl)
    with pytest.raises(UserError, match=r"star.safetensors: its concept has no words to calibrate with"):
        Merge(found, found.settings({}), seed=0).changes(sdxl, loras, state)
    state.close()


@pytest.mark.parametrize("prompts", [[], ["a photo"], ["{} and {}"], ["{0}"], ["{}}"]], ids=str)
def test_prompts_that_name_no_concept_are_refused(prompts: list[str]) -> None:
    with pytest.raises(ValueError, match="prompts"):
        MERGE_METHODS["regmean"].settings({"prompts": prompts})
