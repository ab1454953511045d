"""Breadcrumbs, DELLA, SCE, Iso-C, Iso-CTS and Karcher mean against the papers' and mergekit's equations on dense matrices."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.methods import MERGE_METHODS
from tests.merging import close, lora_parts, merged, plain_sum

PARTS = lora_parts((3, 5, 2))
DENSE = [part.dense() for part in PARTS]


def test_breadcrumbs_drop_the_largest_and_the_smallest() -> None:
    for density, gamma in ((0.9, 0.01), (0.5, 0.2), (1.0, 0.0)):
        expected = torch.zeros_like(DENSE[0])
        for change in DENSE:
            order = change.abs().flatten().argsort()
            largest, kept = round(gamma * len(order)), round(density * len(order))
            middle = order[len(order) - largest - kept : len(order) - largest]
            expected.view(-1)[middle] += change.flatten()[middle]
        assert close(merged("breadcrumbs", PARTS, density=density, gamma=gamma), expected)


def test_della_keeps_large_entries_more_often_and_is_right_on_average() -> None:
    parts, draws = PARTS[:1], 400
    results = [merged("della", parts, seed=seed, density=0.5, window=0.3, combine="sum") for seed in range(draws)]
    stacked = torch.stack(results)
    assert (stacked.mean(0) - DENSE[0]).abs().max() < 6 * (stacked.std(0) / draws**0.5).max()
    kept = (stacked != 0).float().mean(0)
    ranks = DENSE[0].abs().argsort(dim=1).argsort(dim=1)
    expected = 0.2 + 0.6 * ranks / (DENSE[0].shape[1] - 1)
    assert (kept - expected).abs().max() < 5 * 0.5 / draws**0.5
    assert merged("della", PARTS, combine="ties").shape == DENSE[0].shape


def test_della_refuses_probabilities_beyond_one() -> None:
    method = MERGE_METHODS["della"]
    assert method.check is not None
    with pytest.raises(ValueError, match=r"density = 0.9 and window = 0.2: probabilities .* give a smaller window"):
        method.check(2, method.settings({"density": 0.9, "window": 0.2}))


def test_sce_weighs_by_energy_and_erases_minority_signs() -> None:
    stack = torch.stack(DENSE)
    weights = stack.square().mean((1, 2)) / stack.square().mean((1, 2)).sum()
    agree = (stack.sign() == torch.where(stack.sum(0) < 0, -1.0, 1.0)).float() * weights[:, None, None]
    expected = (agree * stack).sum(0) / agree.sum(0).clamp(min=1e-6)
    assert close(merged("sce", PARTS), expected)
    assert close(merged("sce", PARTS[:1]), DENSE[0])
    variance = stack.var(0, unbiased=False)
    chosen = merged("sce", PARTS, density=0.25) != 0
    assert variance[chosen].min() >= variance[~chosen].max() - 1e-6


def svd_of(changes: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vt = torch.linalg.svd(torch.stack(list(changes)).sum(0).double(), full_matrices=False)
    rank = int((s > 1e-6 * s[0]).sum())
    return u[:, :rank], s[:rank], vt[:rank]


def test_iso_c_gives_every_direction_the_mean_singular_value() -> None:
    u, s, vt = svd_of(DENSE)
    assert close(merged("iso_c", PARTS).double(), s.mean() * u @ vt)


def test_iso_cts_keeps_common_directions_and_adds_each_lora_s_own() -> None:
    u, s, vt = svd_of(DENSE)
    common = round(0.6 * len(s))
    own = (len(s) - common) // len(DENSE)
    lefts, values, rights = [u[:, :common]], [s[:common]], [vt[:common]]
    for change in DENSE:
        rest = change.double() - u[:, :common] @ u[:, :common].T @ change.double()
        a, b, c = torch.linalg.svd(rest, full_matrices=False)
        lefts.append(a[:, :own])
        values.append(b[:own])
        rights.append(c[:own])
    (one, _, two), (three, _, four) = (
        torch.linalg.svd(matrix, full_matrices=False) for matrix in (torch.cat(lefts, 1), torch.cat(rights))
    )
    expected = torch.cat(values).mean() * (one @ two) @ (three @ four)
    assert close(merged("iso_cts", PARTS, common=0.6).double(), expected, atol=1e-4)


def test_the_karcher_mean_is_the_riemannian_mean_of_directions() -> None:
    mean = merged("karcher", PARTS).double()
    norms = torch.stack([change.norm() for change in DENSE])
    assert mean.norm().item() == pytest.approx(float(norms.mean()), rel=1e-4)
    direction = mean / mean.norm()
    # at the mean, the sum of the tangent vectors towards the points vanishes
    tangents = torch.zeros_like(direction)
    for change in DENSE:
        point = change.double() / change.double().norm()
        cosine = (point * direction).sum().clamp(-1, 1)
        angle = cosine.acos()
        tangents += angle / angle.sin() * (point - cosine * direction)
    assert tangents.norm() < 1e-4
    assert close(merged("karcher", PARTS[:1]), DENSE[0])
    zero = Factors(PARTS[0].down, PARTS[0].up * 0)
    assert merged("karcher", [zero, zero]).count_nonzero() == 0
    assert torch.isfinite(merged("karcher", [PARTS[0], Factors(PARTS[0].down, -PARTS[0].up)])).all()


def test_the_same_lora_twice_is_the_same_direction() -> None:
    for method in ("karcher", "sce"):
        assert close(merged(method, [PARTS[0], PARTS[0]]), DENSE[0], atol=1e-4)
    assert not close(plain_sum([PARTS[0], PARTS[0]]), DENSE[0])
