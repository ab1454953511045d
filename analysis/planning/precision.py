"""How exact a study of one pair of arms will be, by formula, from what varies and how much of everything there is.

Var(share) = m^2 s_c^2 / concepts + s_p^2 / pairs + s_k^2 / comparisons + s_r^2 / participants + s_e^2 / votes, every s a
standard deviation on the scale of shares, m the concepts of a case. No number of seeds or votes touches the first and fourth:
they are the floors of Judd, Westfall and Kenny (2017, doi 10.1146/annurev-psych-122414-033702).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from scipy import optimize, special, stats

from analysis.contrast import ALPHA
from analysis.inference.concept_sets import MIN_CONCEPTS, ConceptSets, Floats
from analysis.results import Result
from analysis.votes.preference import Votes, clustered_preference
from evalkit.errors import UserError
from evalkit.plural import plural

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


@dataclass(frozen=True, slots=True)
class Spread(Result):
    """What makes votes differ: standard deviations in logits of concepts, pairs, comparisons and participants."""

    concept: float = 0.3
    pair: float = 0.3
    comparison: float = 0.8
    participant: float = 0.5

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 <= value < 10:
                raise UserError(f"spread of {name}s {value}: is a standard deviation in logits, from 0 up; 0.5 is usual")


@dataclass(frozen=True, slots=True)
class StudyDesign(Result):
    """How much of everything one pair of arms gets: `seeds` per case, `votes` per comparison.

    `pairs` are the concept sets in use, one case each; None takes all sets of `together` concepts.
    """

    concepts: int = 30
    seeds: int = 3
    participants: int = 60
    votes: int = 5
    together: int = 2
    pairs: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("concepts", 2), ("seeds", 1), ("participants", 2), ("votes", 1), ("together", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} {getattr(self, name)}: a design needs {least} or more")
        if self.votes > self.participants:
            raise UserError(
                f"votes {self.votes}: {plural(self.participants, 'participant')} give at most "
                f"{self.participants} per comparison"
            )
        most = math.comb(self.concepts, self.together)
        if self.pairs is not None and not self.concepts / self.together <= self.pairs <= most:
            raise UserError(
                f"pairs {self.pairs}: {plural(self.concepts, 'concept')}, {self.together} at a time, make at most {most}, and "
                f"{math.ceil(self.concepts / self.together)} are needed to use each"
            )

    @property
    def cases(self) -> int:
        """Return how many concept sets are in use."""
        return math.comb(self.concepts, self.together) if self.pairs is None else self.pairs

    @property
    def comparisons(self) -> int:
        """Return the comparisons of one pair of arms."""
        return self.cases * self.seeds

    @property
    def judgments(self) -> int:
        """Return the votes on one pair of arms."""
        return self.comparisons * self.votes

    @property
    def df(self) -> int:
        """Return the degrees of freedom of the default test."""
        levels = [self.participants, self.cases] + ([self.concepts] if self.concepts >= MIN_CONCEPTS else [])
        return max(1, min(levels) - 1)


@dataclass(frozen=True, slots=True)
class Outlook(Result):
    """What a design can be expected to show, at 5 %, by formula."""

    effect: float
    """Difference of the share of votes from one half."""
    power: float
    half_width: float
    """Of the 95 % interval of the share of votes."""
    power_equivalence: float | None
    """Of showing equivalence within the margin, if the arms are equally good; None without a margin."""
    smallest_effect: float | None
    """That is found with a power of .8; None if no share below 1 is."""
    concept_floor: float
    """Standard error that concepts and their pairs leave however many seeds, votes and participants there are."""
    participant_floor: float
    """Standard error that participants leave however much else there is."""
    standard_error: float


@lru_cache(maxsize=256)
def shares(spread: Spread, together: int, effect: float) -> tuple[float, Floats]:
    """Return the mean logit that makes a share of 1/2 + `effect`, and the variances on the scale of shares.

    Variances of concepts (one of them), pairs, comparisons, participants, and the votes' own. Effects are taken to first order:
    a logit changes the share by its mean slope, which random effects flatten.
    """
    if not -0.5 < effect < 0.5:
        raise UserError(f"effect {effect}: is a difference from one half, between -0.5 and 0.5; 0.05 is 55 % of votes")
    logits = np.array([spread.concept, spread.pair, spread.comparison, spread.participant]) ** 2
    total = math.sqrt(float(together * logits[0] + logits[1:].sum()))

    def mean(logit: float) -> float:
        return float(WEIGHTS @ special.expit(logit + total * NODES) / WEIGHTS.sum())

    logit = float(optimize.brentq(lambda value: mean(value) - 0.5 - effect, -40, 40))
    chance = special.expit(logit + total * NODES)
    slope = float(WEIGHTS @ (chance * (1 - chance)) / WEIGHTS.sum())
    parts = slope**2 * logits
    share = 0.5 + effect
    own = max(0.0, share * (1 - share) - float(together * parts[0] + parts[1:].sum()))
    return logit, np.append(parts, own)


def variance_terms(design: StudyDesign, spread: Spread, effect: float = 0.0) -> Floats:
    """Return what concepts, pairs, comparisons, participants and single votes add to the variance of the share."""
    _, parts = shares(spread, design.together, effect)
    counts = [design.concepts, design.cases, design.comparisons, design.participants, design.judgments]
    return np.asarray(parts * np.array([design.together**2, 1, 1, 1, 1]) / np.array(counts), np.float64)


def power_of(effect: float, error: float, df: int, tests: int = 1) -> float:
    """Return the chance that a t-test at 5 % over `tests` (Bonferroni, Holm's first step) finds `effect` at this error."""
    edge, shift = float(stats.t.isf(ALPHA / (2 * tests), df)), abs(effect) / error
    power = stats.nct.sf(edge, df, shift) + stats.nct.cdf(-edge, df, shift)
    return float(min(1.0, power)) if np.isfinite(power) else 1.0


def equivalence_power(margin: float, error: float, df: int, tests: int = 1) -> float:
    """Return the chance that two one-sided t-tests show equally good arms to be within the margin."""
    edge = float(stats.t.isf(ALPHA / tests, df))
    return max(0.0, 2.0 * float(stats.nct.sf(edge, df, margin / error)) - 1.0)


def outlook(design: StudyDesign, spread: Spread, effect: float = 0.05, margin: float | None = None, tests: int = 1) -> Outlook:
    """Return power, precision and floors of a design; `tests` contrasts of arms share the error."""
    terms = variance_terms(design, spread, effect)
    error, even = math.sqrt(float(terms.sum())), math.sqrt(float(variance_terms(design, spread).sum()))
    return Outlook(
        effect,
        power_of(effect, error, design.df, tests),
        float(stats.t.isf(ALPHA / 2, design.df)) * error,
        None if margin is None else equivalence_power(margin, even, design.df, tests),
        _smallest_effect(design, spread, tests),
        math.sqrt(float(terms[:2].sum())),
        math.sqrt(float(terms[3])),
        error,
    )


def _smallest_effect(design: StudyDesign, spread: Spread, tests: int, power: float = 0.8) -> float | None:
    def lack(effect: float) -> float:
        return power_of(effect, math.sqrt(float(variance_terms(design, spread, effect).sum())), design.df, tests) - power

    largest = 0.49
    return float(optimize.brentq(lack, 1e-6, largest, xtol=1e-5)) if lack(largest) > 0 else None


def draw_study(design: StudyDesign, spread: Spread, effect: float, rng: np.random.Generator) -> Votes:
    """Return the votes of one simulated study of this design, with freshly drawn random effects."""
    logit, _ = shares(spread, design.together, effect)
    sets = list(combinations(range(design.concepts), design.together))
    if design.pairs is not None:
        # a ring first, so that every concept is used; the others at random
        starts = range(0, design.concepts, design.together)
        ring = {tuple(sorted((start + step) % design.concepts for step in range(design.together))) for start in starts}
        rest = [held for held in sets if held not in ring]
        more = rng.permutation(len(rest))[: design.cases - len(ring)]
        sets = sorted(ring) + [rest[index] for index in more]
    pair = np.repeat(np.arange(len(sets)), design.seeds * design.votes)
    comparison = np.repeat(np.arange(design.comparisons), design.votes)
    who = np.argsort(rng.random((design.comparisons, design.participants)), axis=1)[:, : design.votes].ravel()
    of_concept = rng.normal(0, spread.concept, design.concepts)
    of_pair = of_concept[np.array(sets)].sum(1) + rng.normal(0, spread.pair, len(sets))
    eta = logit + of_pair[pair] + rng.normal(0, spread.comparison, design.comparisons)[comparison]
    eta += rng.normal(0, spread.participant, design.participants)[who]
    choice = (rng.random(len(eta)) < special.expit(eta)).astype(np.float64)
    return Votes("first", "second", choice, comparison, who, ConceptSets(pair, tuple(frozenset(held) for held in sets)))


@dataclass(frozen=True, slots=True)
class Simulation(Result):
    """What the default test did in simulated studies: its power, the spread of the shares, and its mean half width."""

    studies: int
    power: float
    standard_error: float
    half_width: float


def simulate(design: StudyDesign, spread: Spread, effect: float, studies: int, tests: int = 1, seed: int = 0) -> Simulation:
    """Return what the default test finds in `studies` simulated studies of this design."""
    rng = np.random.default_rng(seed)
    results = [clustered_preference(draw_study(design, spread, effect, rng)) for _ in range(studies)]
    halves = [(result.interval[1] - result.interval[0]) / 2 for result in results if result.interval is not None]
    return Simulation(
        studies,
        float(np.mean([result.p is not None and result.p < ALPHA / tests for result in results])),
        float(np.std([result.estimate for result in results if result.estimate is not None])),
        float(np.mean(halves)),
    )
