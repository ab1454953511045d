"""Which figures a run's findings allow, each with its caption."""

from collections.abc import Iterator

from analysis.drawing import Drawing
from analysis.findings import Findings
from analysis.metric_figures import MOST_POINTS, clear_contrasts, metric_forest, raincloud
from analysis.vote_figures import outcome_bars, preference_forest, strength_plot

# every name there may be
FIGURE_NAMES = ("preference", "outcomes", "strengths", "metrics", "differences")


def drawings(found: Findings) -> tuple[Drawing, ...]:
    """Return every figure the findings allow."""
    return (*_of_votes(found), *_of_metrics(found))


def _of_votes(found: Findings) -> Iterator[Drawing]:
    kept = [each for each in found.preferences if each.clustered.estimate is not None]
    if kept:
        told = "Right of 50 %: the first arm is preferred. "
        if found.margin is not None:
            told += f"Band: the margin on the share of {found.margin_scale}. "
        told += "Thick: votes, allowing for shared concepts and participants. Thin: majority outcomes taken as independent."
        figure = preference_forest(kept, found.margin, found.margin_scale, found.simulated)
        yield Drawing("preference", _caption(told, found), figure)
        told = "How many comparisons each arm won by the majority of their votes; an even split is a tie."
        yield Drawing("outcomes", _caption(told, found), outcome_bars(kept, found.simulated))
    if found.strengths is not None and found.strengths.fit is not None:
        told = "Strength of every arm from all votes together. Bars: 95 % by quasi standard errors, made to be compared."
        if found.strengths.quasi is None:
            told = f"Strength of every arm from all votes together. {found.strengths.note}"
        yield Drawing("strengths", _caption(told, found), strength_plot(found.strengths, found.simulated))


def _of_metrics(found: Findings) -> Iterator[Drawing]:
    if clear_contrasts(found.metrics):
        told = (
            "Right of 0: the first arm is better. Blue circles: separated after Holm; grey diamonds: not. "
            "Intervals at 95 %, allowing for shared concepts."
        )
        yield Drawing("metrics", told, metric_forest(found.metrics))
    paired = [each for each in found.measured if len(each.arms) > 1 and len(each.values)]
    if paired:
        told = (
            "Paired differences by case and seed, in each metric's unit: density, quartiles with median, and points "
            f"(every n-th by rank beyond {MOST_POINTS}). The scatter of single images, not the error of the mean."
        )
        yield Drawing("differences", told, raincloud(paired))


def _caption(text: str, found: Findings) -> str:
    return f"[simulated judgments] {text}" if found.simulated else text
