"""The variance of a mean for the scope it is claimed for: these cases or other concepts, these participants or other people.

With other concepts and other people it is the max-rule V = max(V_sets, V_dyadic) + V_participants, each part unbiased for the
design: squared totals of concept sets, the dyadic variance (`analysis.inference.dyadic_standard_errors`), and the variance
between participants as far as the first does not hold it (`analysis.inference.participant_variance`). The larger of the first
two is this project's own rule, justified by simulation (docs/statistics.md): the dyadic part alone rejects too often if
concepts do not matter. With fixed cases the first part comes from the comparisons within each case. Degrees of freedom follow
Satterthwaite.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.dyadic_standard_errors import DyadicDesign, cluster_factor
from analysis.inference.participant_variance import ParticipantMoments, indicator

# With fewer participants the verdict is about these people; what can be concluded for others is stated next to it.
MIN_PARTICIPANTS = 5
# Votes of which no more than this part differs from the rest are nearly all alike: they tell next to nothing of an error.
ALIKE = 0.05


@dataclass(frozen=True, slots=True)
class Scope:
    """What is a random sample: other concepts (or these cases only), other people (or these participants only)."""

    concepts: bool
    participants: bool

    def __le__(self, other: "Scope") -> bool:
        return self.concepts <= other.concepts and self.participants <= other.participants


@dataclass(frozen=True, slots=True)
class ScopedVariance:
    """Variances of the means of some columns, and the degrees of freedom of their t; both of shape (columns,)."""

    variance: Floats
    df: Floats
    df_alike: float
    """Degrees of freedom if nearly all rows are equal: those of the design, since the few others do not determine them."""
    crowding: Floats
    """For votes that are nearly all alike, how many of the others depend on each other at most; 0 for any other column."""


@dataclass(frozen=True)
class DependentRows:
    """Rows that depend on each other: the comparison of each, its concepts, and who judged it (None if unknown)."""

    comparison: Codes
    sets: ConceptSets
    participant: Codes | None = None

    @cached_property
    def people(self) -> int:
        """Return the number of participants; 0 without judgments."""
        return 0 if self.participant is None else len(np.unique(self.participant))

    @cached_property
    def comparisons(self) -> int:
        """Return the number of comparisons."""
        return len(np.unique(self.comparison))

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """Return all scopes that the design has an error for, the narrowest first."""
        by_people = (False, True) if self._person is not None else (False,)
        return tuple(
            scope
            for concepts in (False, True)
            for scope in (Scope(concepts, participants) for participants in by_people)
            if (self.sets.estimable if concepts else self.comparisons > 1)
        )

    @cached_property
    def primary(self) -> Scope | None:
        """Return the scope of the verdict: the widest that there are enough concepts and participants for."""
        wanted = Scope(self.sets.generalises, self._person is not None and self.people >= MIN_PARTICIPANTS)
        fitting = [scope for scope in self.scopes if scope <= wanted]
        return fitting[-1] if fitting else None

    @cached_property
    def _person(self) -> Codes | None:
        if self.participant is None or self.people < 2:
            return None
        return np.unique(self.participant, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def effective_participants(self) -> float | None:
        """Return how many participants with equally many votes would be worth as much; None without judgments."""
        if self.participant is None:
            return None
        votes = np.bincount(self.participant).astype(np.float64)
        return float(votes.sum() ** 2 / (votes @ votes))

    @cached_property
    def _set(self) -> Codes:
        return self.sets.codes

    @cached_property
    def _dyadic(self) -> DyadicDesign:
        return DyadicDesign(self.sets.varying)

    @cached_property
    def _strata(self) -> tuple[Codes, Codes, Codes]:
        """Return each row's comparison and stratum, and each comparison's stratum: its set, or one of all sets seen once."""
        item = np.unique(self.comparison, return_inverse=True)[1].astype(np.int64)
        of_item = np.zeros(int(item.max()) + 1, np.int64)
        of_item[item] = self._set
        lonely = np.flatnonzero(np.bincount(of_item) == 1)
        if len(lonely) == 1:
            # a single case with one comparison joins another case
            lonely = np.append(lonely, np.setdiff1d(np.unique(of_item), lonely)[:1])
        if len(lonely):
            of_item[np.isin(of_item, lonely)] = lonely[0]
        of_item = np.unique(of_item, return_inverse=True)[1].astype(np.int64)
        return item, of_item[item], of_item

    @cached_property
    def _moments(self) -> dict[bool, ParticipantMoments]:
        if self._person is None:
            return {}
        item, stratum, _ = self._strata
        return {True: ParticipantMoments(self._person, self._set), False: ParticipantMoments(self._person, item, stratum)}

    def _cells(self, codes: Codes) -> sparse.csr_array:
        """Return how many rows each participant has at each level of `codes`."""
        person = np.zeros(len(codes), np.int64) if self._person is None else self._person
        shape = (int(codes.max()) + 1, int(person.max()) + 1)
        return sparse.csr_array((np.ones(len(codes)), (codes, person)), shape=shape)

    @cached_property
    def _people_squared(self) -> float:
        votes = np.bincount(np.zeros(0, np.int64) if self._person is None else self._person).astype(np.float64)
        return float(votes @ votes) / len(self.comparison) ** 2

    @cached_property
    def _within_sets(self) -> tuple[float, float, float]:
        """Return the factor and df of the variance by sets, and the part of the participants' variance that it holds."""
        share = self._dyadic.share
        factor, df = cluster_factor(share)
        held = 0.0
        if self._person is not None:
            cells = self._cells(self._set) / len(self._set)
            by_person: Floats = np.asarray(cells.sum(axis=0), np.float64).ravel()
            crossed = float(np.asarray(cells.T @ share, np.float64) @ by_person)
            held = (
                float(np.asarray(cells.power(2).sum(axis=1), np.float64).sum())
                - 2.0 * crossed
                + float(by_person @ by_person) * float(share @ share)
            )
        return factor, df, factor * held

    @cached_property
    def _within_cases(self) -> tuple[Floats, Codes, Floats, float, float]:
        """Return the rows of comparisons, their strata and factors, the df, and the participants' part already held."""
        item, _, stratum = self._strata
        rows = np.bincount(item).astype(np.float64)
        share = rows / np.bincount(stratum, rows)[stratum]
        squares = np.bincount(stratum, share**2)
        factors = np.asarray(1.0 / (1.0 - squares), np.float64)
        size = np.bincount(stratum)
        parts = np.bincount(stratum, (rows / rows.sum()) ** 2)
        df = float(parts.sum() ** 2 / np.sum(parts**2 / np.maximum(size - 1, 1)))
        held = 0.0
        if self._person is not None:
            cells = self._cells(item) / len(item)
            strata = indicator(stratum)
            totals = strata @ cells
            own: Floats = np.asarray(cells.power(2).sum(axis=1), np.float64).ravel()
            crossed: Floats = np.asarray((cells * (sparse.diags_array(share) @ totals[stratum])).sum(axis=1)).ravel()
            whole: Floats = np.asarray(totals.power(2).sum(axis=1), np.float64).ravel()
            held = float(factors @ (np.bincount(stratum, own - 2.0 * crossed) + squares * whole))
        return rows, stratum, factors, df, held

    def _of_items(self, values: Floats, scope: Scope) -> tuple[Floats, Floats, Floats]:
        """Return the variance without participants, its df, and the participants' variance that it holds, per column."""
        total, columns = len(values), values.shape[1]
        if not scope.concepts:
            rows, stratum, factors, df, held = self._within_cases
            sums = indicator(self._strata[0]) @ values
            strata = indicator(stratum)
            means = (strata @ sums) / (strata @ rows)[:, None]
            squares = strata @ ((sums - rows[:, None] * means[stratum]) / total) ** 2
            return factors @ squares, np.full(columns, df), np.full(columns, held)
        totals = (indicator(self._set, len(self.sets.members)) @ (values - values.mean(axis=0))) / total
        squares, products = np.sum(totals**2, axis=0), self._dyadic.sets.shared_products(totals)
        factor, df, held = self._within_sets
        if not self.sets.generalises:
            # so few concepts may be alike by chance: their verdict never counts on it
            df = min(df, self._dyadic.concept_df)
        plain, dyadic = factor * squares, self._dyadic.factor * products
        larger = dyadic >= plain
        if not larger.any():
            return plain, np.full(columns, df), np.full(columns, held)
        both = 0.0 if self._person is None else self._dyadic.participant_part(self._cells(self._set))
        return (
            np.maximum(plain, dyadic),
            np.where(larger, self._dyadic.df, df),
            np.where(larger, both, held),
        )

    def _df_alike(self, scope: Scope) -> float:
        """Return the degrees of freedom of the design alone: few with fewer concepts or participants than needed."""
        df = self._within_sets[1] if scope.concepts else self._within_cases[3]
        if scope.concepts and not self.sets.generalises:
            df = min(df, self._dyadic.concept_df)
        if scope.participants and self.people < MIN_PARTICIPANTS:
            df = min(df, self.people - 1.0)
        return max(1.0, df)

    def _crowding(self, values: Floats, scope: Scope) -> Floats:
        """Return, for columns of votes that are nearly all alike, how many of the others share something with one of them.

        The largest such number falls as the others turn, whichever of them do; a mean over them would not.
        """
        crowding = np.zeros(values.shape[1])
        counts = np.stack([np.count_nonzero(values == vote, axis=0) for vote in (0.0, 0.5, 1.0)])
        usual, rows = np.max(counts, axis=0), len(values)
        near = np.flatnonzero((rows - usual <= ALIKE * rows) & (usual > 0))
        if not len(near):
            return crowding
        votes = np.array([0.0, 0.5, 1.0])[np.argmax(counts[:, near], axis=0)]
        others = (values[:, near] != votes).astype(np.float64)
        item = self._set if scope.concepts else self._strata[0]
        if scope.concepts:
            subsets, signs = self.sets.varying.subsets, self.sets.varying.signs
            totals = indicator(item, len(self.sets.members)) @ others
            together = (subsets.T @ (signs[:, None] * (subsets @ totals)))[item]
        else:
            together = (indicator(item) @ others)[item]
        if scope.participants and self._person is not None:
            both = item * self.people + self._person
            cell = np.unique(both, return_inverse=True)[1].astype(np.int64)
            together = together + (indicator(self._person) @ others)[self._person] - (indicator(cell) @ others)[cell]
        crowding[near] = np.max(np.where(others > 0, together, 1.0), axis=0)
        return crowding

    def variance(self, values: Floats, scope: Scope) -> ScopedVariance:
        """Return the variance of the mean of each column of `values` (rows, columns) for a scope of `scopes`."""
        fixed, df, held = self._of_items(values, scope)
        alike, crowding = self._df_alike(scope), self._crowding(values, scope)
        if not scope.participants:
            return ScopedVariance(fixed, np.maximum(df, 1.0), alike, crowding)
        moments = self._moments[scope.concepts]
        if not moments.estimable:
            return ScopedVariance(fixed, np.maximum(np.minimum(df, self.people - 1), 1.0), alike, crowding)
        between, noise = moments.variance(values), moments.noise(values)
        weight = np.maximum(self._people_squared - held, 0.0)
        total = np.maximum(fixed + weight * between, weight * moments.least(noise))
        spread = fixed**2 / df + weight**2 * moments.uncertainty(between, noise)
        mixed, least = total**2 / np.maximum(spread, 1e-300), np.minimum(df, moments.df)
        # so few participants may be alike by chance: the verdict never counts on it
        df = np.maximum(mixed, least) if self.people >= MIN_PARTICIPANTS else least
        return ScopedVariance(total, np.maximum(df, 1.0), alike, crowding)


def standard_error_of_mean(
    values: Floats, comparison: Codes, sets: ConceptSets, participant: Codes | None
) -> tuple[float, float] | None:
    """Return the standard error of the mean of `values` for the scope of the verdict, and its degrees of freedom.

    None if the rows have no error.
    """
    rows = DependentRows(comparison, sets, participant)
    if rows.primary is None:
        return None
    scoped = rows.variance(values[:, None], rows.primary)
    return float(np.sqrt(scoped.variance[0])), float(scoped.df[0])
