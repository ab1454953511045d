"""All that is computed from one run: preferences, agreement, metrics and similarities, ready for tables and report."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from analysis.contrast import Contrast
from analysis.database_rows import RunData
from analysis.grouping import by_signature, measured, sets_of, votes_of
from analysis.judges.against_people import JudgeAgainstPeople, judges_against_people
from analysis.metrics.human_agreement import Foresight, Judged, judged, people_and_metrics
from analysis.metrics.paired import Measured, MetricResult, mean_of, measure
from analysis.metrics.simultaneous import corrected_together
from analysis.questions.question_results import QuestionResult, question_results
from analysis.results import Result
from analysis.titles import Titles
from analysis.votes.agreement import Agreement, agreement_of, noise_ceiling
from analysis.votes.arm_strengths import ArmStrengths, arm_strengths
from analysis.votes.nway import Several, several_of
from analysis.votes.preference import Preference, preferences
from analysis.votes.vote_models import VoteModel, vote_model

if TYPE_CHECKING:
    from analysis.planning.preregistration import FrozenPlan


@dataclass(frozen=True, slots=True)
class Similarity(Result):
    """How alike the images of two arms are at the same case and seed, under one signature."""

    metric: str
    signature: str
    means: tuple[Contrast, ...]
    """One per pair of arms, in `first` and `second`; a mean with its interval, tested against nothing."""


@dataclass(frozen=True)
class Findings(Result):
    """All results of one run."""

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
    measured: tuple[Measured, ...]
    """What the metrics of single images gave, cell by cell."""
    metrics: tuple[MetricResult, ...]
    """Of the same, their means and contrasts."""
    similarities: tuple[Similarity, ...]
    several: Several | None = None
    """What people chose where more than two images were compared at once."""
    questions: tuple[QuestionResult, ...] = ()
    """Of every question, the first one included, if further questions were answered."""
    plan: "FrozenPlan | None" = None
    """The frozen plan of the analysis, if one was given."""
    titles: Titles = field(default_factory=Titles)
    """What ids are printed as; the names in the findings are these titles already."""
    run: Path | None = None
    """The run folder that contains the images, if it is available."""

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Return every directed metric against the votes, for each pair of arms and then for all arms."""
        return tuple(judged(self.data))

    @cached_property
    def judges(self) -> tuple[JudgeAgainstPeople, ...]:
        """Return what machine judges answered, held against people."""
        with threadpool_limits(limits=1):
            return judges_against_people(self.data.machine_judgments, self.data.judgments, self.data.concepts_of)

    @cached_property
    def foreseen(self) -> tuple[Foresight, ...]:
        """Return how well every metric with a direction predicts the votes; empty without votes on scored images."""
        return tuple(people_and_metrics(self.judged)) if self.preferences else ()

    def records(self) -> list[dict[str, object]]:
        """Return one row per contrast: of preferences, metrics and similarities."""
        parts: tuple[Result, ...] = (*self.preferences, *self.metrics, *self.similarities)
        if self.several is not None:
            parts += (*self.several.differences, *self.several.strength_contrasts)
        parts += tuple(contrast for result in self.questions for contrast in result.contrasts)
        return [record for part in parts for record in part.records()]

    @property
    def simulated(self) -> bool:
        """Return whether any judgment in here was made by a simulated participant."""
        return self.data.simulated > 0


def analyze_run(data: RunData, margin: float | None = 0.05, margin_scale: str = "votes") -> Findings:
    """Return everything the run's judgments and scores allow; either may be absent."""
    # with two BLAS threads small solves are many times slower on a busy machine
    with threadpool_limits(limits=1):
        votes, cells = votes_of(data), tuple(measured(data))
        return Findings(
            data,
            margin,
            margin_scale,
            preferences(votes, margin, margin_scale),
            tuple(agreement_of(pair) for pair in votes),
            tuple(noise_ceiling(pair) for pair in votes),
            tuple(vote_model(pair) for pair in votes),
            arm_strengths(data.judgments, data.concepts_of, data.labels),
            cells,
            corrected_together([measure(metric) for metric in cells], cells),
            tuple(similarities(data)),
            several_of(data),
            question_results(data),
        )


def similarities(data: RunData) -> Iterator[Similarity]:
    """Yield every metric that compares the images of two arms, as a mean per pair of arms."""
    between = data.scores[data.scores["other_arm"] != ""]
    positions = {label: position for position, label in enumerate(data.labels)}
    for name, rows in by_signature(between):
        swapped = (rows["arm"].map(positions) > rows["other_arm"].map(positions)).to_numpy(bool)
        first = rows["arm"].where(~swapped, rows["other_arm"])
        second = rows["other_arm"].where(~swapped, rows["arm"])
        means = []
        for one, other in data.arm_pairs:
            chosen = rows[(first == one) & (second == other)]
            if chosen.empty:
                continue
            cells = chosen.groupby(["case", "seed"])[["value"]].mean()
            values = cells["value"].to_numpy(float)
            mean = mean_of(values, sets_of(data, cells), name, one)
            means.append(replace(mean, second=other))
        yield Similarity(name, str(rows["signature"].iloc[0]), tuple(means))
