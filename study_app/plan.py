"""Which comparisons a run needs, in which seeded order, with which image on the left first. Pure."""

import random
from dataclasses import dataclass
from itertools import combinations

from evalkit.manifest import Manifest


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


def plan_comparisons(manifest: Manifest, seed: int) -> tuple[PlannedComparison, ...]:
    """Return every pair of arms for every case and seed, in the manifest's order.

    The same manifest and seed give the same plan. Within each pair of arms half of the comparisons begin with arm a on the left
    (one more or less where their number is odd).
    """
    rng = random.Random(f"plan {seed}")
    pairs = list(combinations([arm.label for arm in manifest.arms], 2))
    cells = [(case.id, noise) for case in manifest.cases for noise in case.seeds]
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
