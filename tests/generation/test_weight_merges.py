"""Merges of weights: the contract that all of them keep."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from generation.lora.factors import Factors, Lora
from generation.merge.apply import Merge
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import module_of
from generation.pipeline import Pipeline
from tests.merging import INPUTS, OUTPUTS, PRUNED, RANKS, changes, close, lora_parts, loras_of, merged, plain_sum

WEIGHT_METHODS = tuple(name for name, method in MERGE_METHODS.items() if method.acts_on == "weights")
# Methods whose word on a LoRA depends on its place in the case's list.
ORDERED = {"np_lora", "b_lora"}
# Methods that draw chance for one LoRA after another.
DRAWN = {"dare_linear", "dare_ties", "della", "block_rows"}
# What a method must be told to act on the one layer of these tests with both LoRAs.
TOLD: dict[str, dict[str, Any]] = {"b_lora": {"blocks": ("unet", "unet")}}


EXACT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("svd", {"rank": sum(RANKS)}),
    ("dare_linear", {"density": 1}),
    ("dare_linear", {"density": 1, "space": "core"}),
    ("magnitude_prune", {"density": 1}),
    ("magnitude_prune", {"density": 1, "space": "core"}),
    ("fedavg", {"scale": 1}),
)


@pytest.mark.parametrize(("method", "parameters"), EXACT, ids=str)
@pytest.mark.parametrize("window", [(INPUTS,), (5, 2, 2)], ids=["linear", "convolution"])
def test_without_loss_a_linear_merge_is_the_direct_one(
    method: str, parameters: dict[str, Any], window: tuple[int, ...]
) -> None:
    parts = lora_parts(window=window)
    result = merged(method, parts, **parameters)
    assert result.shape == (OUTPUTS, *window)
    assert close(result, plain_sum(parts))
    assert close(merged("direct", parts), plain_sum(parts))


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_a_convolution_is_merged_as_its_flat_matrix(method: str) -> None:
    conv = lora_parts((3, 2), window=(5, 2, 2))
    flat = [Factors(part.down.flatten(1), part.up) for part in conv]
    told = TOLD.get(method, {})
    assert torch.equal(merged(method, conv, **told).flatten(1), merged(method, flat, **told))


@pytest.mark.parametrize("method", sorted(set(WEIGHT_METHODS) - ORDERED - DRAWN))
def test_the_order_of_loras_changes_nothing(method: str) -> None:
    parts = lora_parts()
    first = merged(method, parts)
    for order in permutations(range(3)):
        assert close(merged(method, [parts[place] for place in order], places=order), first)


@pytest.mark.parametrize("method", sorted(DRAWN))
def test_chance_comes_from_seed_and_layer_alone(method: str) -> None:
    parts = lora_parts((3, 2))
    first = merged(method, parts)
    torch.rand(1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(merged(method, parts), first)
    assert not torch.equal(merged(method, parts, seed=8), first)
    assert not torch.equal(merged(method, parts, name="unet.mid_block.to_q"), first)


@pytest.mark.parametrize("method", sorted(set(WEIGHT_METHODS) - {"np_lora", "b_lora"}))
def test_the_same_lora_twice_with_half_the_weight_each_is_finite(method: str) -> None:
    (part,) = lora_parts((3,))
    half = Factors(part.down, part.up / 2)
    assert torch.isfinite(merged(method, [half, half])).all()


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_factors_of_zeros_merge_to_zero(method: str) -> None:
    zeros = [Factors(part.down, part.up * 0) for part in lora_parts((3, 2))]
    assert merged(method, zeros, **TOLD.get(method, {})).count_nonzero() == 0


@pytest.mark.parametrize(
    ("method", "parameters", "count", "message"),
    [
        ("np_lora", {}, 3, "np_lora merges 2 LoRAs, one of them protected; a case has 3"),
        ("b_lora", {}, 3, "blocks has 2 entries, a case merges 3 LoRAs"),
    ],
)
def test_a_case_with_too_many_loras_is_refused(method: str, parameters: dict[str, Any], count: int, message: str) -> None:
    found = MERGE_METHODS[method]
    assert found.check is not None
    found.check(2, found.settings(parameters))
    with pytest.raises(ValueError, match=message):
        found.check(count, found.settings(parameters))


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        *((method, {"density": 0}) for method in PRUNED),
        *((method, {"space": "factors"}) for method in PRUNED),
        ("svd", {"rank": 0}),
        ("tsv", {"rank": 1.5}),
        ("np_lora", {"mu": -1}),
        ("fedavg", {"scale": 0}),
        ("direct", {"weights": "mean"}),
        ("b_lora", {"blocks": 3}),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(method: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MERGE_METHODS[method].settings(wrong)


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_a_lora_of_weight_zero_is_not_there(method: str, world: Path, sdxl: Pipeline) -> None:
    both = loras_of(world, sdxl, "star", "ring", weights=[0.8, 0.0])
    result = changes(sdxl, both, method)
    alone = changes(sdxl, both[:1], method)
    assert all(torch.equal(result[name], alone[name]) for name in alone)
    untouched = {name: module_of(sdxl, name).weight for name in result.keys() - alone.keys()}
    assert all(torch.equal(result[name], untouched[name]) for name in untouched)


def test_a_layer_s_factors_are_made_when_they_are_folded(world: Path, sdxl: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaled copies in float32 of all layers at once would take twice the memory of LoRA files in half precision."""
    made: list[str] = []
    part = Lora.part

    def counted(lora: Lora, layer: str, weight: float = 1.0) -> Factors:
        made.append(layer)
        return part(lora, layer, weight)

    monkeypatch.setattr(Lora, "part", counted)
    loras, direct = loras_of(world, sdxl, "star", "ring"), MERGE_METHODS["direct"]
    change = Merge(direct, direct.settings({}), seed=0).changes(sdxl, loras, SamplingState(sdxl))
    assert change is not None
    assert not made
    name = next(iter(change))
    change[name](torch.device("cpu"))
    assert set(made) == {name}
