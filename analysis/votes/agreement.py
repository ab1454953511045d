"""How far participants agree beyond chance, with intervals for comparisons that share concepts and people."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analysis.contrast import ALPHA, Contrast
from analysis.inference.concept_sets import MIN_CONCEPTS, Codes, ConceptSets, Floats
from analysis.inference.finite_values import check_finite
from analysis.inference.mean_contrast import contrast_of_mean
from analysis.results import Result
from analysis.votes.preference import CANNOT_TELL, Votes
from evalkit.errors import UserError

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Interval = tuple[float, float]

# With 399 resamples the ends of a 95 % interval are resamples themselves, the tenth from below and from above.
DRAWS = 399
SEED = 20_08


@dataclass(frozen=True, slots=True)
class Agreement(Result):
    """Agreement over units judged at least twice. What is undefined is None, and `note` gives the reason.

    Low kappa or alpha is to be expected where two arms are equally good: there is then nothing to agree about.
    """

    units: int
    judgments: int
    raw: float | None
    """Share of pairs of judgments of one unit that are equal."""
    kappa: float | None
    """Fleiss' kappa (1971); for unequal numbers of judgments Gwet's generalisation of it (2014, chapter 2)."""
    alpha: float | None
    """Krippendorff's alpha, nominal; allows unequal numbers of judgments."""
    note: str = ""
    ac1: float | None = None
    """Gwet's AC1 (2008), which does not collapse where nearly all judgments are the same."""
    raw_interval: Interval | None = None
    alpha_interval: Interval | None = None
    ac1_interval: Interval | None = None


def counts_of(unit: Codes, category: Codes) -> NDArray[np.int64]:
    """Return the units x categories table of counts."""
    table = np.zeros((int(unit.max(initial=-1)) + 1, int(category.max(initial=-1)) + 1), dtype=np.int64)
    np.add.at(table, (unit, category), 1)
    return table


def agreement(table: NDArray[np.int64]) -> Agreement:
    """Return the agreement of a units x categories table of counts.

    Units judged once are uninformative and left out; only AC1 uses them, to learn how frequent the categories are. Sources:
    Fleiss 1971 (Psychological Bulletin 76:378); Krippendorff 2011, "Computing Krippendorff's alpha-reliability"; Gwet 2008
    (British Journal of Mathematical and Statistical Psychology 61:29).
    """
    rated = table[table.sum(axis=1) >= 2] if table.size else table.reshape(0, 1)
    if not len(rated):
        return Agreement(0, 0, None, None, None, "No comparison was judged by two participants.")
    sizes = rated.sum(axis=1)
    total = int(sizes.sum())
    raw = float((rated * (rated - 1)).sum() / (sizes * (sizes - 1)).sum())
    if np.count_nonzero(table.sum(axis=0)) < 2 or np.count_nonzero(rated.sum(axis=0)) < 2:
        note = "Every judgment was the same, so chance-corrected agreement is undefined."
        return Agreement(len(rated), total, raw, None, None, note)
    equal = np.all(sizes == sizes[0])
    note = "" if equal else "Comparisons have unequal numbers of judgments, so kappa is Gwet's generalisation of Fleiss' kappa."
    kappa = _fleiss(rated, raw) if equal else generalized_kappa(table)
    alpha = krippendorff(table, range(table.shape[1]), "nominal")
    return Agreement(len(rated), total, raw, kappa, alpha, note, gwet_ac1(table))


def _fleiss(table: NDArray[np.int64], raw: float) -> float:
    shares: Floats = table.sum(axis=0) / table.sum()
    chance = float(np.sum(shares**2))
    return (raw - chance) / (1 - chance)


def generalized_kappa(table: NDArray[np.int64]) -> float:
    """Return Fleiss' kappa of a units x categories table with any number of judgments per unit.

    Source: Gwet 2014 (Handbook of Inter-Rater Reliability, chapter 2), as irrCAC computes it: units judged twice give the
    agreement, all units the frequency of the categories. Raises UserError as `gwet_ac1`, and if all judgments are the same.
    """
    agreed, twice, share = _gwet(table)
    chance = float(np.sum(share.mean(axis=0) ** 2))
    if chance >= 1.0 - 1e-12:
        raise UserError("kappa: every judgment was the same, so agreement beyond chance is undefined; report raw agreement")
    return (float(agreed[twice].mean()) - chance) / (1.0 - chance)


def fleiss_null_error(table: NDArray[np.int64]) -> float:
    """Return the standard error of Fleiss' kappa were all judgments random, for the z that other programs print.

    It takes units for independent and judged by different people, as a design in which concepts recur is not; the intervals
    of `agreement_of` allow for that. Source: Fleiss, Nee and Landis 1979 (Psychological Bulletin 86:974). Raises UserError
    where kappa is undefined.
    """
    result = agreement(table)
    if result.kappa is None or result.note:
        raise UserError(f"error of Fleiss' kappa: needs equally many judgments of every unit; {result.note}")
    rated = table[table.sum(axis=1) >= 2]
    size = result.judgments / result.units
    share: Floats = rated.sum(axis=0) / result.judgments
    spread = share * (1 - share)
    rest = spread.sum() ** 2 - np.sum(spread * (1 - 2 * share))
    return float(np.sqrt(2.0 * rest / (result.judgments * (size - 1))) / spread.sum())


def krippendorff(table: NDArray[np.int64], values: Sequence[float], level: Level) -> float:
    """Return Krippendorff's alpha of a units x categories table of counts, 1 at most.

    `values` is the value of each category, ascending; `nominal` ignores it and `ordinal` uses its order alone. Raises
    UserError if it is undefined: no unit judged twice, judgments that are all the same, ratios of negative values.
    """
    rated = table[table.sum(axis=1) >= 2].astype(np.float64)
    totals = rated.sum(axis=0)
    if np.count_nonzero(totals) < 2:
        raise UserError(
            "Krippendorff's alpha: needs units judged twice and at least two different judgments among them"
            "; collect more judgments"
        )
    check_finite("Krippendorff's alpha", np.asarray(values, np.float64))
    apart = _distances(np.asarray(values, np.float64), totals, level)
    sizes = rated.sum(axis=1)
    observed = np.sum(np.einsum("uc,ck,uk->u", rated, apart, rated) / (sizes - 1))
    return float(1 - observed * (totals.sum() - 1) / (totals @ apart @ totals))


def _distances(values: Floats, totals: Floats, level: Level) -> Floats:
    """Return the squared difference of every two categories (Krippendorff 2011, section E)."""
    if len(values) != len(totals) or np.any(np.diff(values) <= 0):
        raise UserError(f"Krippendorff's alpha: {len(totals)} categories need as many ascending values, not {values.tolist()}")
    across, down = values[None, :], values[:, None]
    if level == "nominal":
        return np.asarray(across != down, np.float64)
    if level == "interval":
        return np.asarray((across - down) ** 2, np.float64)
    if level == "ratio":
        if values[0] < 0:
            raise UserError(f"Krippendorff's alpha: a ratio needs values of zero or more, not {values[0]:g}")
        whole = np.where(across + down == 0, 1.0, across + down)
        return np.asarray(((across - down) / whole) ** 2, np.float64)
    ranks = np.cumsum(totals) - totals / 2
    return np.asarray((ranks[None, :] - ranks[:, None]) ** 2, np.float64)


def gwet_ac1(table: NDArray[np.int64]) -> float:
    """Return Gwet's AC1 of a units x categories table of counts (Gwet 2008); a category without answers counts as one.

    Raises UserError if no unit was judged twice or there are fewer than two categories.
    """
    agreed, twice, share = _gwet(table)
    chance = float(np.sum(share.mean(axis=0) * (1 - share.mean(axis=0))) / (share.shape[1] - 1))
    return (float(agreed[twice].mean()) - chance) / (1 - chance)


def gwet_ac1_error(table: NDArray[np.int64]) -> float:
    """Return the standard error of AC1 over units taken for independent, as irrCAC prints it (Gwet 2008, section 5).

    The intervals of `agreement_of` allow for concepts and participants that recur; this does not. Raises UserError as
    `gwet_ac1`, and for a single unit.
    """
    agreed, twice, share = _gwet(table)
    units, mean = len(share), share.mean(axis=0)
    if units < 2:
        raise UserError("AC1: one unit has no standard error; two or more are needed")
    others = share.shape[1] - 1
    chance, value = float(np.sum(mean * (1 - mean)) / others), gwet_ac1(table)
    own = np.where(twice, (agreed - chance) * units / twice.sum(), 0.0) - 2 * (1 - value) * (
        share @ (1 - mean) / others - chance
    )
    return float(np.sqrt(np.sum((own / (1 - chance) - value) ** 2) / (units * (units - 1))))


def _gwet(table: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return, for each unit judged: its agreement (0 where judged once), whether it was judged twice, and its shares."""
    judged = table[table.sum(axis=1) >= 1].astype(np.float64)
    sizes = judged.sum(axis=1)
    twice = sizes >= 2
    if not twice.any() or table.shape[1] < 2:
        raise UserError("AC1: needs units judged twice and at least two categories; collect more judgments")
    return (judged * (judged - 1)).sum(axis=1) / np.maximum(sizes * (sizes - 1), 1), twice, judged / sizes[:, None]


def agreement_of(votes: Votes, draws: int = DRAWS, seed: int = SEED) -> Agreement:
    """Return the agreement on one pair of arms, with 95 % intervals that hold for other concepts and other people.

    Every draw gives each concept and each participant a random weight of mean and variance one; a pair of votes weighs what
    the concepts of its comparison and both its participants weigh, multiplied (Owen and Eckles 2012, arXiv 1106.2125). The
    interval is that of percentiles, mildly too wide. There is none with a single participant or fewer than five concepts
    and pairs.

    Parameters
    ----------
    votes
        All judgments of one pair of arms.
    draws
        Number of bootstrap draws.
    seed
        Seed of the draws; the same seed gives the same interval.
    """
    category = np.unique(votes.choice, return_inverse=True)[1].astype(np.int64)
    unit = np.unique(votes.comparison, return_inverse=True)[1].astype(np.int64)
    result = agreement(counts_of(unit, category))
    if result.alpha is None or len(np.unique(votes.participant)) < 2:
        return result
    with_concepts = votes.sets.generalises
    if not with_concepts and len(votes.sets.members) < MIN_CONCEPTS:
        why = "Too few concepts recur, so agreement has no interval."
        return replace(result, note=f"{result.note} {why}".strip())
    drawn = _draws(unit, category, votes.participant, votes.sets, with_concepts, draws, np.random.default_rng(seed))
    raw, alpha, ac1 = (_percentiles(values) for values in drawn)
    return replace(result, raw_interval=raw, alpha_interval=alpha, ac1_interval=ac1)


def _draws(
    unit: Codes, category: Codes, participant: Codes, sets: ConceptSets, by_concept: bool, draws: int, rng: np.random.Generator
) -> Floats:
    """Return raw agreement, alpha and AC1 of every draw, of shape (3, draws)."""
    units, categories = int(unit.max()) + 1, int(category.max()) + 1
    people, who = np.unique(participant, return_inverse=True)
    cells = sparse.csr_array((np.ones(len(unit)), (unit * categories + category, who)), shape=(units * categories, len(people)))
    first = np.unique(unit, return_index=True)[1]
    named = {concept: index for index, concept in enumerate(dict.fromkeys(c for held in sets.ordered_members for c in held))}
    # the concepts of each set, filled up with a concept that weighs one
    holds = np.full((len(sets.members), max(len(held) for held in sets.members)), len(named), dtype=np.int64)
    for row, held in enumerate(sets.ordered_members):
        holds[row, : len(held)] = [named[concept] for concept in held]
    results = []
    for _ in range(draws):
        if by_concept:
            of_concept = np.append(rng.exponential(size=len(named)), 1.0)
            of_set = of_concept[holds].prod(axis=1)
        else:
            of_set = rng.exponential(size=len(sets.members))
        of_person = rng.exponential(size=len(people))
        sums = np.asarray(cells @ of_person, np.float64).reshape(units, categories)
        squares = np.asarray(cells @ of_person**2, np.float64).reshape(units, categories)
        results.append(_weighted(sums, squares, of_set[sets.codes[first]], cells))
    return np.array(results).T


def _weighted(sums: Floats, squares: Floats, weight: Floats, cells: sparse.csr_array) -> tuple[float, float, float]:
    """Return raw agreement, nominal alpha and AC1 of weighted votes; a participant is never paired with themselves.

    `sums` and `squares` are those of the participants' weights, units x categories; with weights of one this is `agreement`.
    """
    counts = np.asarray(cells.sum(axis=1)).reshape(sums.shape).sum(axis=1)
    twice = counts >= 2
    whole, own = sums.sum(axis=1), squares.sum(axis=1)
    pairs = np.where(twice, whole**2 - own, 1.0)
    equal = (sums**2 - squares).sum(axis=1)
    raw = np.sum((weight * equal)[twice]) / np.sum((weight * pairs)[twice])
    share = weight @ (sums / whole[:, None]) / weight.sum()
    chance = np.sum(share * (1 - share)) / (len(share) - 1)
    ac1 = (np.sum((weight * equal / pairs)[twice]) / weight[twice].sum() - chance) / (1 - chance)
    # m - 1 of Krippendorff is the number of other votes; for weights it is m - (sum of squares) / m
    observed = np.sum((weight * (pairs - equal) / (whole - own / whole + ~twice))[twice])
    totals = (weight[:, None] * sums)[twice].sum(axis=0)
    expected = (totals.sum() ** 2 - np.sum(totals**2)) / (totals.sum() - 1)
    return float(raw), float(1 - observed / expected), float(ac1)


def _percentiles(values: Floats) -> Interval:
    ordered = np.sort(values)
    rank = max(1, int((len(values) + 1) * ALPHA / 2))
    return float(ordered[rank - 1]), float(ordered[-rank])


def noise_ceiling(votes: Votes) -> Contrast:
    """Return how often a vote equals the majority of the other votes on its comparison: the ceiling for any metric.

    One row per decided vote on a comparison with other votes; an even split of the others counts half. The error is the
    project's default (`analysis.inference.dyadic_standard_errors`).
    """
    lean = votes.choice - 0.5
    unit = np.unique(votes.comparison, return_inverse=True)[1]
    others = np.bincount(unit, weights=lean)[unit] - lean
    mask = (votes.choice != CANNOT_TELL) & (np.bincount(unit)[unit] > 1)
    return contrast_of_mean(
        (0.5 + 0.5 * np.sign(others * lean))[mask], votes.comparison[mask], votes.sets.take(mask), votes.participant[mask],
        first=votes.first, second=votes.second, measure="votes", scale="share of votes that the other votes predict",
        null=0.5, bounds=(0.0, 1.0),
    )  # fmt: skip
