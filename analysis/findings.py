"""All that is computed from one run: preferences, agreement, metrics and similarities, ready for tables and report."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.agreement import Agreement, agreement_of, noise_ceiling
from analysis.clusters import ConceptSets, codes_of
from analysis.contrast import Contrast
from analysis.data import RunData
from analysis.fitted import ArmStrengths, VoteModel, arm_strengths, vote_model
from analysis.paired import Measured, MetricResult, mean_of, measure
from analysis.preference import Preference, Votes, preferences
from analysis.results import Result


@dataclass(frozen=True, slots=True)
class Similarity(Result):
    """How alike the images of two arms are at the same case and seed, under one signature."""

    metric: str
    signature: str
    means: tuple[Contrast, ...]
    """One per pair of arms, in `first` and `second`; a mean with its interval, tested against nothing."""


@dataclass(frozen=True)
class Findings(Result):
    """What one run says."""

    data: RunData
    margin: float | None
    margin_scale: str
    preferences: tuple[Preference, ...]
    agreements: tuple[Agreement, ...]
    """Of the same arm pairs as `preferences`."""
    ceilings: tuple[Contrast, ...]
    """How well a vote is predicted by the others, of the same arm pairs."""
    models: tuple[VoteModel, ...]
    """Of the same arm pairs."""
    strengths: ArmStrengths | None
    metrics: tuple[MetricResult, ...]
    similarities: tuple[Similarity, ...]

    def records(self) -> list[dict[str, object]]:
        """Return one row per contrast: of preferences, metrics and similarities."""
        parts: tuple[Result, ...] = (*self.preferences, *self.metrics, *self.similarities)
        return [record for part in parts for record in part.records()]

    @property
    def simulated(self) -> bool:
        """Return whether any judgment in here was made by a simulated participant."""
        return self.data.simulated > 0


def analyze_run(data: RunData, margin: float | None = 0.05, margin_scale: str = "votes") -> Findings:
    """Return everything the run's judgments and scores allow; either may be absent."""
    # with two BLAS threads small solves are many times slower on a busy machine
    with threadpool_limits(limits=1):
        votes = votes_of(data)
        return Findings(
            data,
            margin,
            margin_scale,
            preferences(votes, margin, margin_scale),
            tuple(agreement_of(each) for each in votes),
            tuple(noise_ceiling(each) for each in votes),
            tuple(vote_model(each) for each in votes),
            arm_strengths(data.judgments, data.concepts_of, data.labels),
            tuple(measure(each) for each in measured(data)),
            tuple(similarities(data)),
        )


def votes_of(data: RunData) -> list[Votes]:
    """Return the judgments of every pair of arms that has any, in the order of the experiment."""
    concepts = data.concepts_of
    found = []
    for first, second in data.arm_pairs:
        rows = data.judgments[(data.judgments["first"] == first) & (data.judgments["second"] == second)]
        if rows.empty:
            continue
        cases = rows["case"].tolist()
        found.append(
            Votes(
                first,
                second,
                rows["choice"].to_numpy(float),
                codes_of(rows["comparison"].tolist()),
                codes_of(rows["participant"].tolist()),
                ConceptSets.of([concepts[case] for case in cases], names=cases),
                (rows["left"] == first).to_numpy(bool),
            )
        )
    return found


def measured(data: RunData) -> Iterator[Measured]:
    """Yield every metric that scores single images; a metric under two signatures comes twice and is never averaged.

    Several rows of one image (one per concept) are averaged first. A case and seed where an arm lacks a score is left out
    for all arms, and counted.
    """
    own = data.scores[data.scores["other_arm"] == ""]
    for name, rows in by_signature(own):
        wide = rows.pivot(index=["case", "seed", "concept"], columns="arm", values="value")
        arms = tuple(arm for arm in data.labels if arm in wide.columns)
        wide = wide.loc[:, list(arms)]
        whole = ~wide.isna().any(axis=1).groupby(level=["case", "seed"]).any()
        cells = wide.groupby(level=["case", "seed"]).mean()[whole]
        yield Measured(
            name,
            str(rows["signature"].iloc[0]),
            str(rows["direction"].iloc[0]),
            arms,
            cells.to_numpy(float),
            _sets(data, cells),
            int((~whole).sum()),
        )


def similarities(data: RunData) -> Iterator[Similarity]:
    """Yield every metric that compares the images of two arms, as a mean per pair of arms."""
    between = data.scores[data.scores["other_arm"] != ""]
    place = {label: position for position, label in enumerate(data.labels)}
    for name, rows in by_signature(between):
        swapped = (rows["arm"].map(place) > rows["other_arm"].map(place)).to_numpy(bool)
        first = rows["arm"].where(~swapped, rows["other_arm"])
        second = rows["other_arm"].where(~swapped, rows["arm"])
        means = []
        for one, other in data.arm_pairs:
            chosen = rows[(first == one) & (second == other)]
            if chosen.empty:
                continue
            cells = chosen.groupby(["case", "seed"])[["value"]].mean()
            values = cells["value"].to_numpy(float)
            found = mean_of(values, _sets(data, cells), name, one)
            means.append(replace(found, second=other))
        yield Similarity(name, str(rows["signature"].iloc[0]), tuple(means))


def by_signature(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each metric under each signature; where there are several signatures, they are told apart by a number."""
    for metric, of_metric in rows.groupby("metric", sort=False):
        signatures = list(dict.fromkeys(of_metric["signature"]))
        for number, signature in enumerate(signatures, start=1):
            name = str(metric) if len(signatures) == 1 else f"{metric} ({number})"
            yield name, of_metric[of_metric["signature"] == signature]


def _sets(data: RunData, cells: pd.DataFrame) -> ConceptSets:
    cases = [str(case) for case in cells.index.get_level_values("case")]
    concepts = data.concepts_of
    return ConceptSets.of([concepts[case] for case in cases], names=cases)
