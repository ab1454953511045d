"""Time of generation and energy kept by merging, per arm, summed over workers and over resumed calls."""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Seconds by arm, and squared Frobenius norms: what a compressing merge kept, and the exact sum's, by arm and concepts."""

    merge: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    drawing: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    # concepts are joined by spaces, which their names do not have; merged twice, they count once
    energies: dict[str, dict[str, tuple[float, float]]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, arm: str, concepts: Sequence[str], energies: Mapping[str, tuple[float, float]]) -> None:
        """Remember what a merge of `concepts` reported, layer by layer."""
        if energies:
            self.energies[arm][" ".join(sorted(concepts))] = _sums(energies.values())

    def add(self, other: "Tally") -> None:
        """Add what was spent elsewhere or before."""
        for mine, theirs in ((self.merge, other.merge), (self.drawing, other.drawing)):
            for arm, seconds in theirs.items():
                mine[arm] = mine.get(arm, 0.0) + seconds
        for arm, found in other.energies.items():
            self.energies[arm] = {**found, **self.energies.get(arm, {})}

    def energy_kept(self) -> dict[str, float]:
        """Return, for each arm whose method compresses, the share of the exact sum's squared norm it kept over all merges."""
        shares = {}
        for arm, found in self.energies.items():
            kept, whole = _sums(found.values())
            if whole > 0:
                shares[arm] = kept / whole
        return shares


def _sums(pairs: Collection[tuple[float, float]]) -> tuple[float, float]:
    """Return the sums of first and second numbers, rounded once: whatever order workers come in, they are the same."""
    return math.fsum(first for first, _ in pairs), math.fsum(second for _, second in pairs)
