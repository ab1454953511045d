"""Merges of factors: shares, cuts, rotations, projections and rows, each against its definition."""

from pathlib import Path

import pytest
import torch

from evalkit.errors import UserError
from generation.lora.factors import Factors
from generation.merge.lowrank import axes, cut
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS
from generation.merge.setup import module_of
from generation.pipeline import Pipeline
from tests.merging import INPUTS, OUTPUTS, RANKS, changes, close, lora_parts, loras_of, matrix_part, merged, plain_sum, same


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
    with pytest.raises(UserError, match=r"weights \[1.0, -1.0\] contain a negative number"):
        merged("fedavg", lora_parts((2, 2)), weights=[1.0, -1.0])


def test_svd_is_the_best_cut_of_the_sum_and_reports_what_it_keeps() -> None:
    parts = lora_parts()
    u, s, vt = torch.linalg.svd(plain_sum(parts).double())
    for rank in (1, 4, 8):
        found: dict[str, tuple[float, float]] = {}
        layer = Layer("unet.a", 0, [1.0] * 3, range(3), energies=found)
        result = MERGE_METHODS["svd"].function(parts, layer, rank=rank)
        assert result.rank == rank
        assert close(result.dense(), (u[:, :rank] * s[:rank]) @ vt[:rank])
        assert found["unet.a"] == pytest.approx((float(s[:rank].square().sum()), float(s.square().sum())), rel=1e-5)
    assert MERGE_METHODS["svd"].function(parts, layer).rank == max(RANKS)


@pytest.mark.parametrize(("rows", "columns"), [(40, 12), (12, 40), (20, 20)])
def test_gram_matrices_tell_what_a_dense_decomposition_does(rows: int, columns: int) -> None:
    """Squaring halves the digits: in float64 those of a float32 matrix are left, of values down to 1e-6 of the largest."""
    rng = torch.Generator().manual_seed(0)
    least = min(rows, columns)
    u, v = (torch.linalg.qr(torch.randn(size, least, generator=rng).double())[0] for size in (rows, columns))
    s = torch.logspace(0, -5, least).double()
    matrix = ((u * s) @ v.T).float()
    exact = torch.linalg.svd(matrix.double(), full_matrices=False)
    basis, inner = axes(matrix)
    assert torch.allclose(inner.double().norm(dim=1), exact.S, rtol=1e-5)
    # up to its sign, a direction is known as well as its weight lets it be
    alike = (basis.double() * exact.U).sum(0).sign()
    assert torch.allclose(basis * exact.S, exact.U * alike * exact.S, atol=1e-6)
    assert torch.allclose(basis @ inner, matrix, atol=1e-6)
    factors = Factors((s[:, None] * v.T).float(), u.float())
    for change in (matrix, factors):
        for rank in (1, least // 2, least):
            pair, kept, total = cut(change, rank)
            best = (exact.U[:, :rank] * exact.S[:rank]) @ exact.Vh[:rank]
            assert (pair.dense() - best).norm() < 1e-6
            assert (kept, total) == pytest.approx(
                (float(exact.S[:rank].square().sum()), float(exact.S.square().sum())), rel=1e-6
            )


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
    blocks = changes(sdxl, loras, "b_lora")
    base = {name: module_of(sdxl, name).weight.clone() for name in blocks}
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
