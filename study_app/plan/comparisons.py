"""Plan of a study: its comparisons in a seeded order, with balanced sides. Pure functions."""

import random
from dataclasses import dataclass
from itertools import combinations

from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from study_app.plan.design import Selection


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison of two or more arms on one case and seed; arms are in the manifest's order.

    `priority` is the comparison's place in the shuffled order, `first_left` is 0 if the first arm's image is on the left for
    the first participant and 1 if the second one's is; of more than two images it has no say.
    """

    case: str
    seed: int
    arms: tuple[str, ...]
    priority: int
    first_left: int


def plan_comparisons(
    manifest: Manifest, seed: int, selection: Selection | None = None, at_once: int = 2
) -> tuple[PlannedComparison, ...]:
    """Return the selected pairs of arms for every selected case and seed, in the manifest's order; without selection, all.

    With `at_once` above 2 all sets of so many arms take the place of the pairs.

    The same manifest, seed and selection give the same plan. Within each pair of arms half of the comparisons begin with arm a
    on the left (one more or less where their number is odd).
    """
    rng = random.Random(f"plan {seed}")
    sets = _sets(manifest, selection or Selection(), at_once)
    cells = _cells(manifest, seed, selection or Selection())
    priorities = list(range(len(sets) * len(cells)))
    rng.shuffle(priorities)
    sides: dict[tuple[str, ...], list[int]] = {}
    for number, arms in enumerate(sets):
        half = [(index + number) % 2 for index in range(len(cells))]
        rng.shuffle(half)
        sides[arms] = half
    return tuple(
        PlannedComparison(
            case=case,
            seed=noise,
            arms=arms,
            priority=priorities[cell * len(sets) + number],
            first_left=sides[arms][cell],
        )
        for cell, (case, noise) in enumerate(cells)
        for number, arms in enumerate(sets)
    )


def _sets(manifest: Manifest, selection: Selection, at_once: int) -> list[tuple[str, ...]]:
    """Return the pairs (or larger sets) of arms to compare, each in the manifest's order."""
    arms = [arm.label for arm in manifest.arms if not selection.arms or arm.label in selection.arms]
    sets: list[tuple[str, ...]] = list(combinations(arms, at_once))
    if selection.pairs:
        wanted = {frozenset(pair) for pair in selection.pairs}
        sets = [pair for pair in sets if frozenset(pair) in wanted]
        if len(sets) < len(wanted):
            raise UserError("study.toml: comparisons.pairs: each must be two different arms, both in comparisons.arms if given")
    if not sets:
        needed = "two arms" if at_once == 2 else f"{at_once} arms (at_once); there are {len(arms)}"
        raise UserError(f"study.toml: comparisons.arms: a comparison needs {needed}; name more of them")
    return sets


def _cells(manifest: Manifest, seed: int, selection: Selection) -> list[tuple[str, int]]:
    """Return the cases and seeds to judge, in the manifest's order."""
    cases = [case for case in manifest.cases if not selection.cases or case.id in selection.cases]
    cells = [(case.id, noise) for case in cases for noise in case.seeds]
    if selection.sample is None:
        return cells
    if selection.sample > len(cells):
        raise UserError(
            f"study.toml: comparisons.sample {selection.sample}: there are {len(cells)} cells (case and seed)"
            "; give at most that"
        )
    rng = random.Random(f"sample {seed}")
    # a seed of every case, in a shuffled order of cases, then a second one of every case, ...
    rounds: list[tuple[int, float, tuple[str, int]]] = []
    for case in cases:
        priority = rng.random()
        for turn, noise in enumerate(rng.sample(case.seeds, len(case.seeds))):
            rounds.append((turn, priority, (case.id, noise)))
    chosen = {cell for _, _, cell in sorted(rounds)[: selection.sample]}
    return [cell for cell in cells if cell in chosen]
