"""The cheapest study that shows what it should: a search over designs, by the formula of `analysis.planning.precision`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, comb, sqrt

import numpy as np
from scipy import stats

from analysis.contrast import ALPHA
from analysis.planning.precision import Outlook, Spread, StudyDesign, outlook, variance_terms
from analysis.results import Result
from evalkit.errors import UserError
from evalkit.plural import plural

# Minutes of work: a concept is photographed and trained, a participant invited and instructed.
PRICES = {"concept": 30.0, "participant": 5.0, "judgment": 0.1}
CHOICES: dict[str, tuple[int, ...]] = {
    "concepts": (5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100),
    "seeds": (1, 2, 3, 5, 8),
    "participants": (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200),
    "votes": (1, 2, 3, 5, 7, 10),
}
# Cases per concept; all sets of concepts besides.
PER_CONCEPT = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Target:
    """What a study should reach: a power to find the effect, a half width of the 95 % interval, or both."""

    effect: float = 0.05
    power: float | None = None
    half_width: float | None = None

    def __post_init__(self) -> None:
        if self.power is not None and not 0.05 < self.power < 1:
            raise UserError(f"power {self.power}: is a chance between 0.05 and 1; 0.8 is usual")
        if self.half_width is not None and not 0 < self.half_width < 0.5:
            raise UserError(f"half width {self.half_width}: is a share between 0 and 0.5; 0.05 is five percentage points")
        if self.power is not None and self.effect == 0:
            raise UserError("effect 0: no study finds an effect of nothing; name the smallest effect that matters")

    def reached(self, predicted: Outlook) -> bool:
        """Return whether an outlook is good enough."""
        wide = self.half_width is not None and predicted.half_width > self.half_width
        return not wide and (self.power is None or predicted.power >= self.power)


@dataclass(frozen=True, slots=True)
class Plan(Result):
    """A design, what it costs in the unit of the prices, and what it promises."""

    cost: float
    design: StudyDesign
    outlook: Outlook

    def records(self) -> list[dict[str, object]]:
        """Return design and promise as one row."""
        return [{"cost": self.cost} | self.design.records()[0] | self.outlook.records()[0]]


def cost_of(design: StudyDesign, prices: Mapping[str, float], tests: int = 1) -> float:
    """Return what a design costs; every pair of arms needs its own judgments, by the same participants."""
    judgments = design.judgments * tests
    return prices["concept"] * design.concepts + prices["participant"] * design.participants + prices["judgment"] * judgments


def cheapest(
    target: Target,
    spread: Spread,
    fixed: Mapping[str, int] | None = None,
    prices: Mapping[str, float] = PRICES,
    together: int = 2,
    tests: int = 1,
) -> Plan:
    """Return the cheapest design that reaches the target; `fixed` holds what the study can't change.

    Raises UserError if no design of the grid reaches it; the message names the limiting floor.
    """
    held = dict(fixed or {})
    designs = sorted(_designs(held, together), key=lambda design: cost_of(design, prices, tests))
    if not designs:
        given = ", ".join(f"{name} {value}" for name, value in held.items())
        raise UserError(f"plan: no design has {given}; votes per comparison can't exceed the participants")
    for design in designs:
        if _hopeless(design, spread, target):
            continue
        result = outlook(design, spread, target.effect, tests=tests)
        if target.reached(result):
            return Plan(cost_of(design, prices, tests), design, result)
    best = min(designs, key=lambda design: float(variance_terms(design, spread, target.effect).sum()))
    result = outlook(best, spread, target.effect, tests=tests)
    raise UserError(
        f"plan: no design reaches this target; "
        f"{plural(best.concepts, 'concept')}, {plural(best.participants, 'participant')} and "
        f"{plural(best.judgments, 'judgment')} give a power of {result.power:.2f} and a half width of {result.half_width:.3f} "
        f"(concepts alone leave a standard error of {result.concept_floor:.3f}, participants of {result.participant_floor:.3f})"
    )


def _hopeless(design: StudyDesign, spread: Spread, target: Target) -> bool:
    """Return whether even a normal test, which needs less than any t, would miss the target."""
    error, sure = sqrt(float(variance_terms(design, spread, target.effect).sum())), float(stats.norm.isf(ALPHA / 2))
    if target.half_width is not None and sure * error > target.half_width:
        return True
    return target.power is not None and abs(target.effect) / error < sure + float(stats.norm.ppf(target.power)) - 0.05


def _designs(fixed: Mapping[str, int], together: int) -> Iterable[StudyDesign]:
    grid = {name: (fixed[name],) if name in fixed else values for name, values in CHOICES.items()}
    for concepts, seeds, participants, votes in product(*grid.values()):
        if votes > participants or concepts < together:
            continue
        most = comb(concepts, together)
        cases = {per * concepts for per in PER_CONCEPT} | {most} if "pairs" not in fixed else {fixed["pairs"]}
        for pairs in sorted(cases):
            if ceil(concepts / together) <= pairs <= most:
                whole = StudyDesign(concepts, seeds, participants, votes, together)
                yield whole if pairs == most else replace(whole, pairs=pairs)


def prices_of(words: Iterable[str]) -> dict[str, float]:
    """Return the prices with those given as `concept=30` put in; raise UserError for anything else."""
    prices = dict(PRICES)
    for word in words:
        name, _, number = word.partition("=")
        if name not in prices:
            raise UserError(f"price {word!r}: known are {', '.join(prices)}; write for example concept=30")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not (np.isfinite(value) and value >= 0):
            raise UserError(f"price {word!r}: needs a number from 0 up; write for example {name}=30")
        prices[name] = value
    return prices
