"""Which comparisons a run needs, in which seeded order, with which image on the left first. Pure."""

import random
from dataclasses import dataclass
from itertools import combinations

from evalkit.errors import UserError
from evalkit.manifest import Manifest
from study_app.design import Selection


@dataclass(frozen=True)
class PlannedComparison:
    """Two arms' images of one case and seed; `arm_a` comes first in the manifest.

    `priority` is the comparison's place in the shuffled order, `first_left` is 0 where arm a's image is on the left for the
    first participant and 1 where arm b's is.
    """

    case: str
    seed: int
    arm_a: str
    arm_b: str
    priority: int
    first_left: int


def plan_comparisons(manifest: Manifest, seed: int, selection: Selection | None = None) -> tuple[PlannedComparison, ...]:
    """Return the selected pairs of arms for every selected case and seed, in the manifest's order; without selection, all.

    The same manifest, seed and selection give the same plan. Within each pair of arms half of the comparisons begin with arm a
    on the left (one more or less where their number is odd).
    """
    rng = random.Random(f"plan {seed}")
    pairs = _pairs(manifest, selection or Selection())
    cells = _cells(manifest, seed, selection or Selection())
    priorities = list(range(len(pairs) * len(cells)))
    rng.shuffle(priorities)
    sides: dict[tuple[str, str], list[int]] = {}
    for number, pair in enumerate(pairs):
        half = [(index + number) % 2 for index in range(len(cells))]
        rng.shuffle(half)
        sides[pair] = half
    return tuple(
        PlannedComparison(
            case=case,
            seed=noise,
            arm_a=pair[0],
            arm_b=pair[1],
            priority=priorities[cell * len(pairs) + number],
            first_left=sides[pair][cell],
        )
        for cell, (case, noise) in enumerate(cells)
        for number, pair in enumerate(pairs)
    )


def _pairs(manifest: Manifest, selection: Selection) -> list[tuple[str, str]]:
    """Return the pairs of arms to compare, each in the manifest's order."""
    arms = [arm.label for arm in manifest.arms if not selection.arms or arm.label in selection.arms]
    pairs = list(combinations(arms, 2))
    if selection.pairs:
        wanted = {frozenset(pair) for pair in selection.pairs}
        pairs = [pair for pair in pairs if frozenset(pair) in wanted]
        if len(pairs) < len(wanted):
            raise UserError("study.toml: comparisons.pairs: each must be two different arms, both in comparisons.arms if given")
    if not pairs:
        raise UserError("study.toml: comparisons.arms: a comparison needs two arms")
    return pairs


def _cells(manifest: Manifest, seed: int, selection: Selection) -> list[tuple[str, int]]:
    """Return the cases and seeds to judge, in the manifest's order."""
    cases = [case for case in manifest.cases if not selection.cases or case.id in selection.cases]
    cells = [(case.id, noise) for case in cases for noise in case.seeds]
    if selection.sample is None:
        return cells
    if selection.sample > len(cells):
        raise UserError(f"study.toml: comparisons.sample {selection.sample}: there are {len(cells)} cells (case and seed)")
    rng = random.Random(f"sample {seed}")
    # a seed of every case, in a shuffled order of cases, then a second one of every case, ...
    rounds: list[tuple[int, float, tuple[str, int]]] = []
    for case in cases:
        place = rng.random()
        for turn, noise in enumerate(rng.sample(case.seeds, len(case.seeds))):
            rounds.append((turn, place, (case.id, noise)))
    kept = {cell for _, _, cell in sorted(rounds)[: selection.sample]}
    return [cell for cell in cells if cell in kept]
