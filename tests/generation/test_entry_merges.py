"""Merges of entries (TIES, DARE, magnitude): each against its definition, done the slow and dense way."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generation.merge import elementwise as entries
from generation.pipeline import Pipeline
from tests.merging import INPUTS, PRUNED, RANKS, changes, close, lora_parts, loras_of, matrix_part, merged, plain_sum, same

SPACES = pytest.mark.parametrize("space", ["dense", "core"])


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
    monkeypatch.setattr(entries, "BLOCK", 5 * INPUTS)
    expected = dense_ties(torch.stack([part.dense() for part in parts]), density)
    assert close(merged("ties", parts, density=density), expected)


@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
@pytest.mark.parametrize("ranks", [RANKS, (8, 5, 4), (9, 9, 9)], ids=["below both sides", "above one", "above both"])
def test_core_space_prunes_in_the_bases_of_all_factors(method: str, ranks: tuple[int, ...]) -> None:
    parts = lora_parts(ranks)
    left = torch.linalg.svd(torch.cat([part.up for part in parts], 1).double(), full_matrices=False)[0]
    right = torch.linalg.svd(torch.cat([part.down for part in parts]).double(), full_matrices=False)[2].T
    cores = [matrix_part((left.T @ part.dense().double() @ right).tolist()) for part in parts]
    expected = left @ merged(method, cores).double() @ right.T
    result = merged(method, parts, space="core")
    assert close(result, expected, atol=1e-4)
    assert not close(result, merged(method, parts), atol=1e-2)
    assert torch.linalg.matrix_rank(result) <= sum(ranks)


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


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "knots"])
def test_what_chance_drops_does_not_depend_on_blocks(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, options = lora_parts(), {"operator": "dare_ties"} if method == "knots" else {}
    whole = merged(method, parts, **options)
    monkeypatch.setattr(entries, "BLOCK", 5 * INPUTS)
    assert close(merged(method, parts, **options), whole)


@pytest.mark.parametrize("method", [*PRUNED])
def test_core_space_works_in_a_whole_model(method: str, world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring", "moon")
    core = changes(sdxl, loras, method, space="core")
    assert all(torch.isfinite(weight).all() for weight in core.values())
    assert not same(core, changes(sdxl, loras, method))
