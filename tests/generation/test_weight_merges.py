"""Merges of weights: each against its definition, done the slow and dense way, and against the direct merge."""

import math
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.lora import Factors, load_lora
from generation.merge import MERGE_METHODS, entries
from generation.merge.apply import Merge, Weighted, layers_of, module_of
from generation.merge.drawing import Drawing
from generation.merge.layer import Layer
from generation.pipeline import Pipeline

RANKS = (4, 2, 3)
OUTPUTS, INPUTS = 12, 20
WEIGHT_METHODS = tuple(name for name, method in MERGE_METHODS.items() if method.acts_on == "weights")
PRUNED = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
SPACES = pytest.mark.parametrize("space", ["dense", "core"])
# Methods whose word on a LoRA depends on its place in the case's list.
ORDERED = {"np_lora", "b_lora"}
# Methods that draw chance for one LoRA after another.
DRAWN = {"dare_linear", "dare_ties", "block_rows"}


def lora_parts(ranks: Sequence[int] = RANKS, window: Sequence[int] = (INPUTS,), seed: int = 0) -> list[Factors]:
    rng = torch.Generator().manual_seed(seed)
    return [Factors(torch.randn(r, *window, generator=rng), torch.randn(OUTPUTS, r, generator=rng)) for r in ranks]


def merged(
    method: str, parts: Sequence[Factors], *, places: Sequence[int] | None = None, weights: Sequence[float] = (),
    name: str = "unet.up_blocks.0.attentions.0.to_q", seed: int = 7, **parameters: Any,
) -> Tensor:  # fmt: skip
    """Return the dense change that a method makes of `parts`."""
    found = MERGE_METHODS[method]
    settings = found.settings(parameters).model_dump()
    layer = Layer(name, seed, weights or [1.0] * len(parts), range(len(parts)) if places is None else places)
    result = found.function(parts, layer, **settings)
    return result.dense() if isinstance(result, Factors) else result


def plain_sum(parts: Sequence[Factors]) -> Tensor:
    return torch.stack([part.dense() for part in parts]).sum(0)


def close(one: Tensor, other: Tensor, atol: float = 1e-5) -> bool:
    return torch.allclose(one, other.to(one.dtype), atol=atol, rtol=1e-4)


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
    assert torch.equal(merged(method, conv).flatten(1), merged(method, flat))


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
    assert merged(method, zeros).count_nonzero() == 0


def test_shares_add_up_to_one() -> None:
    parts = lora_parts()
    weighted = [Factors(part.down, part.up * weight) for part, weight in zip(parts, (1.0, 2.0, 5.0), strict=True)]
    expected = plain_sum(weighted) / 8
    assert close(merged("fedavg", weighted, weights=(1.0, 2.0, 5.0)), expected)
    layer = Layer("unet.a", 0, (1.0, 2.0, 5.0), range(3))
    assert close(MERGE_METHODS["direct"].function(weighted, layer, weights="affine").dense(), expected)
    assert close(merged("fedavg", weighted, weights=(1.0, 2.0, 5.0), scale=0.6), 0.6 * plain_sum(weighted))
    # where one LoRA alone adapts a layer, its share stays that of the case
    assert close(merged("fedavg", parts[:1], weights=(1.0, 1.0)), parts[0].dense() / 2)


def test_negative_weights_are_no_shares() -> None:
    with pytest.raises(UserError, match=r"weights \[1.0, -1.0\] are no shares of one"):
        merged("fedavg", lora_parts((2, 2)), weights=[1.0, -1.0])


def test_svd_is_the_best_cut_of_the_sum_and_reports_what_it_keeps() -> None:
    parts = lora_parts()
    u, s, vt = torch.linalg.svd(plain_sum(parts).double())
    for rank in (1, 4, 8):
        found: dict[str, float] = {}
        layer = Layer("unet.a", 0, [1.0] * 3, range(3), energies=found)
        result = MERGE_METHODS["svd"].function(parts, layer, rank=rank)
        assert result.rank == rank
        assert close(result.dense(), (u[:, :rank] * s[:rank]) @ vt[:rank])
        assert found["unet.a"] == pytest.approx(float(s[:rank].square().sum() / s.square().sum()), rel=1e-6)
    assert MERGE_METHODS["svd"].function(parts, layer).rank == max(RANKS)


def dense_ties(deltas: Tensor, density: float) -> Tensor:
    """Algorithm 1 of the TIES paper in plain loops."""
    flat = deltas.flatten(1).tolist()
    trimmed = []
    for values in flat:
        bound = sorted((abs(value) for value in values), reverse=True)[max(1, round(density * len(values))) - 1]
        trimmed.append([value if abs(value) >= bound else 0.0 for value in values])
    result = []
    for column in zip(*trimmed, strict=True):
        plus = sum(column) >= 0
        agree = [value for value in column if (value > 0 if plus else value < 0)]
        result.append(sum(agree) / len(agree) if agree else 0.0)
    return torch.tensor(result).view(deltas.shape[1:])


def matrix_part(rows: list[list[float]]) -> Factors:
    return Factors(torch.eye(len(rows[0])), torch.tensor(rows))


def test_ties_on_an_example_worked_by_hand() -> None:
    one = matrix_part([[4.0, -1.0], [2.0, 0.5]])
    other = matrix_part([[2.0, 3.0], [-6.0, 0.1]])
    # density 0.5 keeps 4, 2 and 3, -6; signs: +, +, - (2 - 6), + (nothing left)
    assert merged("ties", [one, other]).tolist() == [[4.0, 3.0], [-6.0, 0.0]]
    # all kept: 4 and 2 agree, 3 outvotes -1, -6 outvotes 2, 0.5 and 0.1 agree
    assert merged("ties", [one, other], density=1).flatten().tolist() == pytest.approx([3.0, 3.0, -6.0, 0.3])
    # a tie counts as plus
    assert merged("ties", [matrix_part([[1.0]]), matrix_part([[-1.0]])], density=1).tolist() == [[1.0]]


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties_in_blocks_of_rows_is_the_paper_s_algorithm(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = lora_parts()
    monkeypatch.setattr(entries, "BLOCK", 5 * INPUTS * len(parts))
    expected = dense_ties(torch.stack([part.dense() for part in parts]), density)
    assert close(merged("ties", parts, density=density), expected)


@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
def test_core_space_prunes_in_the_bases_of_all_factors(method: str) -> None:
    parts = lora_parts()
    left = torch.linalg.svd(torch.cat([part.up for part in parts], 1).double(), full_matrices=False)[0]
    right = torch.linalg.svd(torch.cat([part.down for part in parts]).double(), full_matrices=False)[2].T
    cores = [matrix_part((left.T @ part.dense().double() @ right).tolist()) for part in parts]
    expected = left @ merged(method, cores).double() @ right.T
    result = merged(method, parts, space="core")
    assert close(result, expected, atol=1e-4)
    assert not close(result, merged(method, parts), atol=1e-2)
    assert torch.linalg.matrix_rank(result) <= sum(RANKS)


@SPACES
def test_dare_is_right_on_average(space: str) -> None:
    parts, count = lora_parts((3, 2)), 600
    draws = torch.stack([merged("dare_linear", parts, seed=seed, density=0.3, space=space) for seed in range(count)])
    error = (draws.mean(0) - plain_sum(parts)) / (draws.std(0) / math.sqrt(count))
    assert error.abs().max().item() < 5
    assert error.square().mean().item() < 2


def test_dare_keeps_its_share_and_rescales_it() -> None:
    (part,) = lora_parts((4,), window=(2000,))
    thinned = merged("dare_linear", [part], density=0.25)
    kept = thinned != 0
    assert kept.float().mean().item() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / thinned.numel()))
    assert close(thinned[kept], part.dense()[kept] * 4, atol=1e-4)
    # alone, a LoRA meets no vote
    assert torch.equal(merged("dare_ties", [part], density=0.25), thinned)


def test_knots_merges_the_right_singular_vectors_of_all_changes_side_by_side() -> None:
    parts = lora_parts()
    deltas = [part.dense().double() for part in parts]
    u, s, vt = torch.linalg.svd(torch.cat(deltas, 1), full_matrices=False)
    rank = sum(RANKS)
    u, scaled = u[:, :rank], s[:rank, None] * vt[:rank]
    pieces = [matrix_part(piece.tolist()) for piece in torch.split(scaled, INPUTS, dim=1)]
    for density in (0.3, 1.0):
        expected = u @ merged("ties", pieces, density=density).double()
        assert close(merged("knots", parts, density=density), expected, atol=1e-4)
    assert torch.isfinite(merged("knots", parts, operator="dare_ties")).all()


@pytest.mark.parametrize("rank", [None, 2])
def test_tsv_is_the_dense_algorithm(rank: int | None) -> None:
    parts = lora_parts()
    kept = rank or min(OUTPUTS, INPUTS) // len(parts)
    us, ss, vs = [], [], []
    for part in parts:
        u, s, vt = torch.linalg.svd(part.dense().double(), full_matrices=False)
        real = min(kept, part.rank)
        us.append(u[:, :real]), ss.append(s[:real]), vs.append(vt[:real].T)
    turned = []
    for stacked in (torch.cat(us, 1), torch.cat(vs, 1)):
        p, _, qt = torch.linalg.svd(stacked, full_matrices=False)
        turned.append(p @ qt)
    expected = torch.linalg.multi_dot([turned[0], torch.cat(ss).diag(), turned[1].T])
    assert close(merged("tsv", parts, rank=rank), expected, atol=1e-4)


def test_tsv_leaves_one_lora_and_orthogonal_ones_as_they_are() -> None:
    (part,) = lora_parts((4,))
    assert close(merged("tsv", [part]), part.dense())
    assert close(merged("tsv", [part, part]), part.dense())
    down, up = torch.eye(INPUTS), torch.eye(OUTPUTS)
    apart = [Factors(down[:2] * 3, up[:, :2]), Factors(down[2:4], up[:, 2:4] * 5)]
    assert close(merged("tsv", apart), plain_sum(apart))


def test_np_lora_projects_out_the_inputs_that_the_style_reads() -> None:
    subject, style = parts = lora_parts((4, 2))
    inputs = torch.linalg.svd(style.dense().double(), full_matrices=False)[2][:2]
    hard = merged("np_lora", parts, mu="hard").double()
    assert close(hard @ inputs.T, style.dense().double() @ inputs.T)
    assert close(merged("np_lora", parts, mu=1e9), hard)
    assert close(merged("np_lora", parts, mu=0), plain_sum(parts))
    expected = style.dense() + subject.dense().double() @ (torch.eye(INPUTS) - 0.5 / 1.5 * inputs.T @ inputs)
    assert close(merged("np_lora", parts), expected)
    # the places in the case decide, not the order in which parts arrive
    assert close(merged("np_lora", parts[::-1], places=[1, 0]), expected)
    assert close(merged("np_lora", parts, places=[1, 0]), merged("np_lora", parts, protect="first"))
    assert torch.equal(merged("np_lora", parts[:1]), subject.dense())


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


def loras_of(world: Path, pipeline: Pipeline, *names: str, weights: Sequence[float] = ()) -> list[Weighted]:
    loras = [load_lora(world / f"{name}.safetensors", pipeline) for name in names]
    return [Weighted(lora, w, place) for place, (lora, w) in enumerate(zip(loras, weights or [1.0] * 9, strict=False))]


def changes(pipeline: Pipeline, loras: Sequence[Weighted], method: str, **parameters: Any) -> dict[str, Tensor]:
    """Return the weights of all layers the LoRAs adapt, under a merge of them."""
    found = MERGE_METHODS[method]
    drawing = Drawing(pipeline)
    try:
        with Merge(found, found.settings(parameters), seed=11).applied(pipeline, loras, drawing):
            return {name: module_of(pipeline, name).weight.clone() for name in layers_of(loras)}
    finally:
        drawing.close()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("names", [("star", "ring"), ("star", "ring", "moon")], ids=len)
def test_row_blocks_are_orthogonal_dropout_with_static_masks_to_the_bit(
    names: tuple[str, ...], world: Path, sdxl: Pipeline
) -> None:
    loras = loras_of(world, sdxl, *names, weights=[1.0, 0.7, 1.3])
    blocks = changes(sdxl, loras, "block_rows")
    assert same(blocks, changes(sdxl, loras, "orthogonal_mc_dropout", p=1 - 1 / len(names), preset="static"))


def test_row_blocks_partition_the_rows_and_keep_them_as_trained_if_wished() -> None:
    parts = lora_parts()
    rows = merged("block_rows", parts, rescale=False)
    owners = [[torch.equal(row, part.dense()[number]) for part in parts] for number, row in enumerate(rows)]
    assert all(sum(of_row) == 1 for of_row in owners)
    assert close(merged("block_rows", parts), 3 * rows)


def test_each_b_lora_acts_in_its_own_block(world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring")
    base = changes(sdxl, [Weighted(lora.lora, 0.0, lora.place) for lora in loras], "direct")
    blocks = changes(sdxl, loras, "b_lora")
    alone = [changes(sdxl, [lora], "direct") for lora in loras]
    seen = set()
    for name, weight in blocks.items():
        owner = next((place for place in (0, 1) if name.startswith(f"unet.up_blocks.0.attentions.{place}.")), None)
        seen.add(owner)
        expected = base[name] if owner is None else alone[owner].get(name, base[name])
        assert torch.equal(weight, expected)
    assert seen == {None, 0, 1}
    with pytest.raises(UserError, match=r"b_lora: LoRA 2 of the case adapts no layer in 'unet.up_blocks.7'"):
        changes(sdxl, loras, "b_lora", blocks=[["unet.mid_block", "text_encoder"], "unet.up_blocks.7"])


@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_a_lora_of_weight_zero_is_not_there(method: str, world: Path, sdxl: Pipeline) -> None:
    both = loras_of(world, sdxl, "star", "ring", weights=[0.8, 0.0])
    result = changes(sdxl, both, method)
    alone = changes(sdxl, both[:1], method)
    assert all(torch.equal(result[name], alone[name]) for name in alone)
    untouched = {name: module_of(sdxl, name).weight for name in result.keys() - alone.keys()}
    assert all(torch.equal(result[name], untouched[name]) for name in untouched)


@pytest.mark.parametrize("method", [*PRUNED])
def test_core_space_works_in_a_whole_model(method: str, world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring", "moon")
    core = changes(sdxl, loras, method, space="core")
    assert all(torch.isfinite(weight).all() for weight in core.values())
    assert not same(core, changes(sdxl, loras, method))
