"""The variance of a mean whose rows share concepts, participants and comparisons.

Two rows are dependent where they share a participant or at least one concept: 30 concepts make 435 pairs, and each concept sits
in 29 of them. Treating the rows as independent understates the error of a study of that size fivefold.
"""

import math
from dataclasses import dataclass

import numpy as np

from analysis.inference.concept_sets import MIN_CONCEPTS, Codes, ConceptSets, Floats
from evalkit.plural import plural

# With simulated concept effects of .5 logit a nominal 5 % test is wrong in 7 to 8 % of studies of 8 concepts.
RELIABLE_CONCEPTS = 20


def cluster_meat(residuals: Floats, codes: Codes) -> float:
    """Return the sum over clusters of the squared sum of their residuals."""
    return float(np.sum(np.bincount(codes, weights=residuals) ** 2))


def correct(variance: float, count: int) -> float:
    """Return the variance times G / (G - 1), the usual correction for G clusters."""
    return variance * count / (count - 1) if count > 1 else variance


@dataclass(frozen=True, slots=True)
class Robust:
    """The variance of a mean, the degrees of freedom of its t, and what it generalises to."""

    variance: float
    df: int
    scope: tuple[str, ...]
    clusters: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]

    @property
    def standard_error(self) -> float:
        """Return the square root of the variance."""
        return math.sqrt(self.variance)


def robust_variance(values: Floats, comparison: Codes, sets: ConceptSets, participant: Codes | None) -> Robust | None:
    """Return the variance of the mean of `values` under the widest scope the design allows; None where it allows none.

    With enough of everything this is the max-rule
    V = max(V_pair + V_participant - V_both, V_dyad + V_participant - V_both', V_pair, V_participant), referred to a t with
    min(concepts, pairs, participants) - 1 degrees of freedom where the dyadic term is the largest, else min(pairs,
    participants) - 1. Its parts are the clustered variances of Cameron, Gelbach and Miller (2011) and the dyadic one of
    Aronow, Samii and Assenova (2015). Taking the largest is this project's own rule, justified by simulation
    (docs/statistics.md), not by a paper: the dyadic part alone rejects too often where concepts do not matter.
    V_dyad is made unbiased by `ConceptSets.dyadic_factor`, the others by G / (G - 1).
    Without participants (metrics) it is max(V_pair, V_dyad). Levels with too few members are left out and named in the notes.
    """
    residuals = values - values.mean()
    scale = 1.0 / len(values) ** 2
    people = 0 if participant is None else len(np.unique(participant))
    pairs, items = len(np.unique(sets.codes)), len(np.unique(comparison))
    with_people, with_pairs = people > 1, pairs > 1
    with_concepts = sets.generalises
    item = sets.codes if with_pairs else comparison
    level, count = (sets.word, pairs) if with_pairs else ("comparisons", items)

    plain: list[float] = []
    counts: list[int] = []
    v_people = correct(cluster_meat(residuals, participant) * scale, people) if with_people and participant is not None else 0.0
    if with_people:
        plain.append(v_people)
        counts.append(people)
    if count > 1:
        both = _both(residuals, participant, item) * scale if with_people and participant is not None else 0.0
        v_item = correct(cluster_meat(residuals, item) * scale, count)
        plain += [v_item, v_item + v_people - both]
        counts.append(count)
    if not plain:
        return None
    variance, df = max(0.0, *plain), min(counts) - 1
    if with_concepts:
        both = sets.meat(residuals, within=participant) * scale if with_people else 0.0
        dyadic = (sets.dyadic_factor or 1.0) * sets.meat(residuals) * scale + v_people - both
        if dyadic >= variance:
            variance, df = dyadic, min(sets.concepts, *counts) - 1
    scope: tuple[str, ...] = ("seeds",) if items > 1 else ()
    scope += (sets.word,) if with_pairs else ()
    scope += ("concepts",) if with_concepts else ()
    scope += ("participants",) if with_people else ()
    named = (("concepts", sets.concepts), (level, count)) + ((("participants", people),) if participant is not None else ())
    notes = _cautions(sets, people if participant is not None else None)
    return Robust(variance, df, scope, named, notes)


def _both(residuals: Floats, participant: Codes, item: Codes) -> float:
    keys, key = np.unique(participant * (item.max() + 1) + item, return_inverse=True)
    return correct(cluster_meat(residuals, key.astype(np.int64)), len(keys))


def _cautions(sets: ConceptSets, people: int | None) -> tuple[str, ...]:
    notes = []
    if len(sets.members) < 2:
        notes.append("All rows are about the same concepts, so nothing is said about other concepts.")
    elif not sets.generalises:
        fewest, name = min((sets.concepts, "concepts"), (len(sets.members), sets.word))
        if fewest < MIN_CONCEPTS:
            why = f"{fewest} {name} are too few to stand for other concepts ({MIN_CONCEPTS} are needed)"
        elif frozenset.intersection(*sets.members):
            why = "One concept is in every case"
        else:
            why = "Nearly every two cases share a concept"
        notes.append(f"{why}, so the result holds for these concepts alone.")
    elif sets.concepts < RELIABLE_CONCEPTS:
        notes.append(
            f"With {plural(sets.concepts, 'concept')}, fewer than {RELIABLE_CONCEPTS}, "
            f"a test at 5 % can be wrong in up to 8 % of "
            "studies: a p just below .05 is weak evidence."
        )
    if people == 1:
        notes.append("One participant judged, so nothing is said about other people.")
    elif people is not None and people < MIN_CONCEPTS:
        notes.append(f"{plural(people, 'participant')} judged; no number of votes makes up for so few.")
    return tuple(notes)
