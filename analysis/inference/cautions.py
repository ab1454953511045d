"""Cautions: what a design weakens in a verdict, in whole sentences."""

import numpy as np
from scipy import stats

from analysis.inference.concept_sets import MIN_CONCEPTS, Floats
from analysis.inference.scoped_variance import MIN_PARTICIPANTS, DependentRows
from evalkit.plural import plural

# Below this many concepts the measured error rates reach up to the 8 % that the caution names (docs/statistics.md).
RELIABLE_CONCEPTS = 20
# Skewness of the rows over the root of the number of concepts from which on the measured error rate exceeds 8 %.
SKEWED = 0.2


def cautions(rows: DependentRows) -> tuple[str, ...]:
    """Return the cautions of a design of rows: about its concepts, then about its participants."""
    return (*_of_concepts(rows), *_of_participants(rows))


def skewed(values: Floats, concepts: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return whether each column of `values` (rows, columns) is so skewed that a t over so many concepts is wrong too often."""
    constant = np.ptp(values, axis=0) == 0.0
    skewness = stats.skew(np.where(constant, np.arange(len(values))[:, None], values), axis=0)
    return np.asarray(~constant & (np.abs(skewness) > SKEWED * concepts**0.5), np.bool_)


def skew_caution(values: Floats, concepts: int) -> tuple[str, ...]:
    """Return the caution of one column of differences that is skewed, or nothing."""
    if len(values) < 3 or not skewed(values[:, None], concepts)[0]:
        return ()
    return (
        f"The differences are skewed or have outliers (skewness {float(stats.skew(values)):.1f}): with "
        f"{plural(concepts, 'concept')} a test at 5 % can be wrong in up to 12 % of studies.",
    )


def _of_concepts(rows: DependentRows) -> list[str]:
    sets = rows.sets
    if len(sets.members) < 2:
        return ["All rows are about the same concepts, so nothing is concluded about other concepts."]
    common = ", ".join(sorted(map(str, sets.common)))
    if not sets.estimable:
        return ["Nearly every two cases share a concept, so the result holds for these cases alone."]
    if not sets.generalises:
        fewest, name = min((sets.varying.concepts, "concepts"), (len(sets.members), sets.word))
        return [
            f"{fewest} {name} are too few to represent other concepts ({MIN_CONCEPTS} are needed), so the result holds for "
            "these cases alone."
        ]
    notes = []
    if common:
        notes.append(f"{common} is in every case, so the result holds for cases with it.")
    if sets.varying.concepts < RELIABLE_CONCEPTS:
        notes.append(
            f"With {plural(sets.varying.concepts, 'concept')}, fewer than {RELIABLE_CONCEPTS}, a test at 5 % can be wrong in "
            "up to 8 % of studies: a p just below .05 is weak evidence."
        )
    return notes


def _of_participants(rows: DependentRows) -> list[str]:
    if rows.participant is None:
        return []
    if rows.people == 1:
        return ["One participant judged, so nothing is concluded about other people."]
    if rows.people < MIN_PARTICIPANTS:
        return [
            f"{plural(rows.people, 'participant')} judged, too few to represent other people ({MIN_PARTICIPANTS} are needed), "
            "so the result holds for these participants alone."
        ]
    effective = rows.effective_participants or 0.0
    if effective < rows.people / 2:
        return [
            f"The {rows.people} participants gave very unequal numbers of votes: they are worth {effective:.1f} with equally "
            "many. A cap on the judgments per person avoids this."
        ]
    return []
