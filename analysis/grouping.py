"""The rows of a run, grouped into what one analysis takes: votes by pair of arms, scores by metric and signature."""

from collections.abc import Iterator

import pandas as pd

from analysis.database_rows import RunData
from analysis.inference.concept_sets import ConceptSets, codes_of
from analysis.metrics.paired import Measured
from analysis.votes.preference import Votes


def votes_of(data: RunData) -> list[Votes]:
    """Return the judgments of every pair of arms that has any, in the order of the experiment."""
    concepts = data.concepts_of
    pairs = []
    for first, second in data.arm_pairs:
        rows = data.judgments[(data.judgments["first"] == first) & (data.judgments["second"] == second)]
        if rows.empty:
            continue
        cases = rows["case"].tolist()
        pairs.append(
            Votes(
                first,
                second,
                rows["choice"].to_numpy(float),
                codes_of(rows["comparison"].tolist()),
                codes_of(rows["participant"].tolist()),
                ConceptSets.of([concepts[case] for case in cases], names=cases),
                (rows["left"] == first).to_numpy(bool) if data.sides_known else None,
            )
        )
    return pairs


def measured(data: RunData) -> Iterator[Measured]:
    """Yield every metric that scores single images; a metric under two signatures comes twice and is never averaged.

    Several rows of one image (one per concept) are averaged first. A case and seed in which an arm lacks a score is left out
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
            sets_of(data, cells),
            int((~whole).sum()),
            tuple((str(case), int(seed)) for case, seed in cells.index),
        )


def by_signature(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each metric under each signature; several signatures of one metric are numbered."""
    for metric, of_metric in rows.groupby("metric", sort=False):
        signatures = list(dict.fromkeys(of_metric["signature"]))
        for number, signature in enumerate(signatures, start=1):
            name = str(metric) if len(signatures) == 1 else f"{metric} ({number})"
            yield name, of_metric[of_metric["signature"] == signature]


def sets_of(data: RunData, cells: pd.DataFrame) -> ConceptSets:
    cases = [str(case) for case in cells.index.get_level_values("case")]
    concepts = data.concepts_of
    return ConceptSets.of([concepts[case] for case in cases], names=cases)
