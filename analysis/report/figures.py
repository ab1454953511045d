"""Which figures a run's findings allow, each with its caption."""

from collections.abc import Iterator
from pathlib import Path

from analysis.findings import Findings
from analysis.metrics.arm_profiles import profiles
from analysis.metrics.arm_ranks import ArmRanks, arm_ranks
from analysis.metrics.calibration import calibration
from analysis.metrics.human_agreement import Judged
from analysis.metrics.paired import Measured
from analysis.planning.pilot import spread_of_models
from analysis.planning.precision import StudyDesign
from analysis.report.calibration_figure import calibration_plot
from analysis.report.figure_style import ReportFigure
from analysis.report.gallery import RULE, gallery
from analysis.report.gallery_figure import MOST_ROWS, case_gallery
from analysis.report.metric_figures import MOST_POINTS, clear_contrasts, metric_forest, raincloud
from analysis.report.precision_figure import precision_floor
from analysis.report.rank_figures import critical_difference_diagram, profile_plot
from analysis.report.vote_figures import outcome_bars, preference_forest, strength_plot
from evalkit.errors import UserError

# every name there may be
FIGURE_NAMES = (
    "preference", "outcomes", "strengths", "metrics", "differences", "ranks", "profiles", "calibration", "floor",
    "gallery",
)  # fmt: skip


def drawings(found: Findings) -> tuple[ReportFigure, ...]:
    """Return every figure the findings allow."""
    return (*_of_votes(found), *_of_metrics(found), *_of_arms(found), *_of_both(found), *_of_design(found))


def gallery_drawing(found: Findings, run: Path) -> ReportFigure | None:
    """Return the case gallery for a paper; the report shows more cases, and those as text and pictures."""
    exhibits = gallery(found, run, MOST_ROWS)
    if not exhibits:
        return None
    voted = found.simulated and any(each.tallies for each in exhibits)
    told = f"References and images of every arm, with the votes of each pair of arms. Cases and seeds are {RULE}."
    return ReportFigure("gallery", _caption(told, found) if voted else told, case_gallery(exhibits, found.simulated))


def _of_votes(found: Findings) -> Iterator[ReportFigure]:
    kept = [each for each in found.preferences if each.clustered.estimate is not None]
    if kept:
        told = "Right of 50 %: the first arm is preferred. "
        if found.margin is not None:
            told += f"Band: the margin on the share of {found.margin_scale}. "
        told += "Thick: votes, allowing for shared concepts and participants. Thin: majority outcomes taken as independent."
        figure = preference_forest(kept, found.margin, found.margin_scale, found.simulated)
        yield ReportFigure("preference", _caption(told, found), figure)
        told = "How many comparisons each arm won by the majority of their votes; an even split is a tie."
        yield ReportFigure("outcomes", _caption(told, found), outcome_bars(kept, found.simulated))
    if found.strengths is not None and found.strengths.fit is not None:
        told = "Strength of every arm from all votes together. Bars: 95 % by quasi standard errors, made to be compared."
        if found.strengths.quasi is None:
            told = f"Strength of every arm from all votes together. {found.strengths.note}"
        yield ReportFigure("strengths", _caption(told, found), strength_plot(found.strengths, found.simulated))


def _of_metrics(found: Findings) -> Iterator[ReportFigure]:
    if clear_contrasts(found.metrics):
        told = (
            "Right of 0: the first arm is better. Blue circles: separated after Holm; grey diamonds: not. "
            "Intervals at 95 %, allowing for shared concepts."
        )
        yield ReportFigure("metrics", told, metric_forest(found.metrics))
    paired = [each for each in found.measured if len(each.arms) > 1 and len(each.values)]
    if paired:
        told = (
            "Paired differences by case and seed, in each metric's unit: density, quartiles with median, and points "
            f"(every n-th by rank beyond {MOST_POINTS}). The scatter of single images, not the error of the mean."
        )
        yield ReportFigure("differences", told, raincloud(paired))


def _caption(text: str, found: Findings) -> str:
    return f"[simulated judgments] {text}" if found.simulated else text


def _of_arms(found: Findings) -> Iterator[ReportFigure]:
    paired = [each for each in found.measured if len(each.arms) > 1 and len(each.values)]
    ranks = [ranked for ranked in (_ranks(each) for each in paired if each.direction != "none") if ranked is not None]
    if ranks:
        told = (
            "Mean rank of every arm over concept sets. A bar at the right joins arms that Nemenyi's test does not separate at "
            "5 %; it takes concept sets for independent, so it holds for other sets of these concepts."
        )
        yield ReportFigure("ranks", told, critical_difference_diagram(ranks))
    if paired:
        told = "Share of images whose score exceeds each threshold; bands: 95 %, bootstrap over concepts and seeds, pointwise."
        yield ReportFigure("profiles", told, profile_plot([profiles(each) for each in paired]))


def _ranks(measured: Measured) -> ArmRanks | None:
    try:
        return arm_ranks(measured)
    except UserError:
        # fewer than three arms, or nothing to rank
        return None


def _of_both(found: Findings) -> Iterator[ReportFigure]:
    """Yield how votes follow metrics, over all arms where several pairs were judged."""
    known: dict[str, Judged] = {}
    for each in found.judged:
        # all arms together come after their pairs
        known[each.metric] = each
    if known:
        told = (
            "Share of votes for the first arm's image against the metric's lead, comparisons in groups of equal size. A metric "
            "that foresees people rises from below to above 50 %. Intervals allow for shared concepts and participants."
        )
        figure = calibration_plot([calibration(each) for each in known.values()], found.simulated)
        yield ReportFigure("calibration", _caption(told, found), figure)


def _of_design(found: Findings) -> Iterator[ReportFigure]:
    """Yield the precision floor of the study's own design, where its votes say what varies."""
    if not any(model.fit is not None for model in found.models):
        return
    design = design_of_study(found)
    if design is None:
        return
    told = (
        "What more seeds would bring: half width of the 95 % interval of one pair of arms, by formula, from the spread this "
        "study's own votes show. Below the dashed line one gets with more concepts only."
    )
    spread = spread_of_models(found.models).spread
    yield ReportFigure("floor", _caption(told, found), precision_floor(design, spread, found.simulated))


def design_of_study(found: Findings) -> StudyDesign | None:
    """Return the design of the study as judged, for one pair of arms; None if the formulas do not cover it."""
    data, first = found.data, found.preferences[0]
    held = [each.concepts for each in data.cases]
    concepts, together = len({name for names in held for name in names}), max((len(names) for names in held), default=0)
    pairs = len({frozenset(names) for names in held})
    try:
        return StudyDesign(
            concepts=concepts,
            seeds=max(1, round(first.comparisons / max(1, pairs))),
            participants=first.participants,
            votes=max(1, round(first.votes / first.comparisons)),
            together=together,
            pairs=pairs,
        )
    except UserError:
        return None
