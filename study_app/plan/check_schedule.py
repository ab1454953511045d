"""Seeded schedule of quality checks: a coin per page decides whether it is a check, from the first page on.

The coin is independent of everything a participant sees, so no position, distance or rhythm tells a check from a comparison.
"""

import hashlib
from functools import lru_cache
from typing import Literal

from study_app.plan.design import Checks, Design

Kind = Literal["null_pair", "repeat", "gold", "attention"]
# A repeat shows nothing that was seen on the pages directly before.
REPEAT_DISTANCE = 3
_SCHEDULES = 4096


class CheckSchedule:
    """The checks of one participant: for every comparison, the kinds of all checks that precede it."""

    def __init__(self, rates: Checks, golds: int, seed: int) -> None:
        self._rates: dict[Kind, float] = {
            "null_pair": rates.null_pairs, "repeat": rates.repeats, "gold": rates.gold, "attention": rates.attention,
        }  # fmt: skip
        self._golds, self._seed = golds, seed
        self._page = 0
        self._checks: list[Kind] = []
        # how many checks come before the comparison of this number, trailing ones included
        self._before: list[int] = []

    def before(self, comparison: int) -> tuple[Kind, ...]:
        """Return the kinds of all checks shown before the comparison of this number (from 0), in order."""
        while len(self._before) <= comparison:
            self._extend()
        return tuple(self._checks[: self._before[comparison]])

    def _extend(self) -> None:
        """Draw pages until the next comparison."""
        while (kind := self._draw()) is not None:
            self._checks.append(kind)
        self._before.append(len(self._checks))

    def _draw(self) -> Kind | None:
        """Return what the next page is: a kind of check, None for a comparison."""
        digest = hashlib.sha256(f"page {self._seed} {self._page}".encode()).digest()
        self._page += 1
        coin, choice = (int.from_bytes(part) / 2**64 for part in (digest[:8], digest[8:16]))
        total = sum(self._rates.values())
        if coin >= total / (1 + total):
            return None
        possible = {kind: rate for kind, rate in self._rates.items() if rate > 0 and self._is_possible(kind)}
        point = choice * sum(possible.values())
        for kind, rate in possible.items():
            point -= rate
            if point < 0:
                return kind
        return None

    def _is_possible(self, kind: Kind) -> bool:
        if kind == "gold":
            # one that was seen before would be recognised
            return self._checks.count("gold") < self._golds
        if kind == "repeat":
            return len(self._before) - self._checks.count("repeat") > REPEAT_DISTANCE
        return True


@lru_cache(maxsize=_SCHEDULES)
def _schedule(rates: Checks, golds: int, seed: int) -> CheckSchedule:
    return CheckSchedule(rates, golds, seed)


def checks_before(design: Design, seed: int, comparison: int) -> tuple[Kind, ...]:
    """Return the kinds of all checks that a participant is shown before the comparison of this number (from 0)."""
    return _schedule(design.checks, len(design.gold), seed).before(comparison) if design.checks.any() else ()
