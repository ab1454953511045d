"""Paired comparisons as counts: who beat whom from which side, and whether that is enough to rank them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csgraph

from analysis.inference.concept_sets import Codes, Floats
from evalkit.errors import UserError


@dataclass(frozen=True)
class Comparisons:
    """One row per vote: the arm shown left, the arm shown right (places in `arms`), and the choice.

    `choice` is 1 for the left arm, 0 for the right one, 1/2 for neither.
    """

    arms: tuple[str, ...]
    left: Codes
    right: Codes
    choice: Floats

    @classmethod
    def of(cls, left: Sequence[str], right: Sequence[str], choice: Floats) -> "Comparisons":
        """Return the comparisons of arms given by name; the arms are in alphabetical order."""
        arms = tuple(sorted(set(left).union(right)))
        code_of = {arm: code for code, arm in enumerate(arms)}
        codes = [np.fromiter(map(code_of.__getitem__, side), np.int64, len(side)) for side in (left, right)]
        return cls(arms, codes[0], codes[1], choice)

    def counts(self) -> "Counts":
        """Return how often each arm won, lost or tied; raise UserError for a row that compares nothing."""
        size = len(self.arms)
        if not len(self.left) == len(self.right) == len(self.choice):
            raise UserError(
                f"comparisons: as many left arms ({len(self.left)}) as right arms ({len(self.right)}) "
                f"and choices ({len(self.choice)}) are needed"
            )
        if not len(self.left):
            raise UserError("comparisons: there are no votes; at least one is needed")
        doubled = 2.0 * self.choice
        if not np.all((doubled == 0) | (doubled == 1) | (doubled == 2)):
            raise UserError("comparisons: a choice is neither 1 (left), 0 (right) nor 0.5 (neither); correct the choices")
        if min(self.left.min(), self.right.min()) < 0 or max(self.left.max(), self.right.max()) >= size:
            raise UserError(f"comparisons: an arm's number is outside 0 to {size - 1}; there are {size} arms")
        cells = np.bincount((self.left * size + self.right) * 3 + doubled.astype(np.int64), minlength=3 * size * size).reshape(
            size, size, 3
        )
        table = cells.astype(np.float64)
        itself = np.flatnonzero(np.diagonal(table.sum(2)))
        if len(itself):
            raise UserError(f"comparisons: {self.arms[itself[0]]!r} was compared with itself; leave such rows out")
        return Counts(self.arms, table[:, :, 2], table[:, :, 0], table[:, :, 1])


@dataclass(frozen=True)
class Counts:
    """How often the arm of the row, shown left, won, lost or tied against the arm of the column, shown right.

    Each table is of shape (arms, arms).
    """

    arms: tuple[str, ...]
    won: Floats
    lost: Floats
    tied: Floats

    @property
    def total(self) -> Floats:
        """Return how often each arm was shown left of each other."""
        return self.won + self.lost + self.tied

    @property
    def beats(self) -> Floats:
        """Return how often the arm of the row won against the arm of the column, from either side."""
        return self.won + self.lost.T

    def split_ties(self) -> "Counts":
        """Return the counts with every tie turned into half a win for each side, to see what Davidson's model changes."""
        return replace(self, won=self.won + self.tied / 2, lost=self.lost + self.tied / 2, tied=np.zeros_like(self.tied))


def check_connected(counts: Counts) -> None:
    """Raise UserError, naming the groups, unless every arm has won or tied, directly or through others, against every other.

    Ford (1957): finite strengths exist only where no split of the arms leaves one side without a single win over the other.
    With ties the same holds, a tie being half a win for both (Davidson 1970).
    """
    ties = counts.tied + counts.tied.T
    graph = (counts.beats + ties > 0).astype(np.float64)
    parts, part = csgraph.connected_components(graph, directed=False)
    if parts > 1:
        groups = " | ".join(_named(counts.arms, part == component) for component in range(parts))
        raise UserError(
            f"these groups of arms were never compared with each other: {groups}; analyse each alone, or compare them"
        )
    strong, member = csgraph.connected_components(graph, directed=True, connection="strong")
    for component in range(strong):
        inside = member == component
        if strong > 1 and not np.any(graph[np.ix_(~inside, inside)]):
            top, others = _named(counts.arms, inside), _named(counts.arms, ~inside)
            raise UserError(
                f"strengths: no other arm ever won or tied against {top}, so the distance to {others} has no finite estimate; "
                "collect more votes, or report the counts"
            )


def _named(arms: Sequence[str], chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
    return ", ".join(arm for arm, wanted in zip(arms, chosen, strict=True) if wanted)
