"""Generation statistics by arm: seconds, and the energy that compressing merges keep."""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class GenerationStats:
    """Seconds of merging and sampling by arm, and energies: squared Frobenius norms that compressing merges kept.

    Statistics of workers, and of the calls that resumed a run, are added up.
    """

    merge: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sampling: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    # by arm and concepts: energy kept, energy of the exact sum. Concepts are joined by spaces, which their names do not
    # contain. A merge that is made twice counts once.
    energies: dict[str, dict[str, tuple[float, float]]] = field(default_factory=lambda: defaultdict(dict))

    def record_energies(self, arm: str, concepts: Sequence[str], energies: Mapping[str, tuple[float, float]]) -> None:
        """Record the energies of one merge of `concepts`, given by layer."""
        if energies:
            self.energies[arm][" ".join(sorted(concepts))] = _sums(energies.values())

    def add(self, other: "GenerationStats") -> None:
        """Add the statistics of another worker or of an earlier call."""
        for totals, seconds_by_arm in ((self.merge, other.merge), (self.sampling, other.sampling)):
            for arm, seconds in seconds_by_arm.items():
                totals[arm] = totals.get(arm, 0.0) + seconds
        for arm, energies in other.energies.items():
            self.energies[arm] = {**energies, **self.energies.get(arm, {})}

    def energy_kept(self) -> dict[str, float]:
        """Return the share of the exact sum's energy that each compressing arm kept, in [0, 1], over all its merges."""
        shares = {}
        for arm, energies in self.energies.items():
            retained, total = _sums(energies.values())
            if total > 0:
                shares[arm] = retained / total
        return shares


def _sums(pairs: Collection[tuple[float, float]]) -> tuple[float, float]:
    """Return the sums of first and second numbers, rounded once, so that the order of workers changes nothing."""
    return math.fsum(first for first, _ in pairs), math.fsum(second for _, second in pairs)
