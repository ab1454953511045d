"""Every figure from its result object alone: readable pictures in three formats, also of awkward data."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from analysis.inference.concept_sets import ConceptSets
from analysis.metrics.arm_profiles import profiles
from analysis.metrics.arm_ranks import arm_ranks
from analysis.metrics.calibration import calibration
from analysis.metrics.human_agreement import Judged
from analysis.metrics.paired import Measured, measure
from analysis.planning.precision import Spread, StudyDesign
from analysis.report.calibration_figure import calibration_plot
from analysis.report.figure_style import ReportFigure
from analysis.report.gallery import GalleryImage, GalleryRow, VoteCounts
from analysis.report.gallery_figure import case_gallery
from analysis.report.metric_figures import metric_forest, raincloud
from analysis.report.precision_figure import precision_floor
from analysis.report.rank_figures import critical_difference_diagram, profile_plot
from analysis.report.vote_figures import outcome_bars, preference_forest, strength_plot
from analysis.votes.arm_strengths import ArmStrengths
from analysis.votes.preference import Votes, preferences

RNG = np.random.default_rng(11)
ROWS = np.arange(300)
SETS = ConceptSets.of([(f"c{row // 5 % 6}", f"c{(row // 5 + 1 + row // 30) % 6}") for row in ROWS])
ARMS = ("direct", "an arm with $a_long & odd% name", "ties")


def votes(choice):
    return Votes("a", "$b_{c}$ & 100%", choice, ROWS // 5, ROWS % 7, SETS)


def measured(values, metric="dino", direction="higher"):
    return Measured(metric, f"{metric}|1", direction, ARMS, values, SETS.take(np.arange(len(values))))


def beside():
    """Return votes that follow a metric's lead, the same for all votes on one comparison."""
    gap = np.repeat(RNG.normal(0.1, 1, 60), 5)
    choice = (RNG.random(300) < 1 / (1 + np.exp(-2 * gap))).astype(float)
    return Judged("dino", "dino|1", votes(choice), gap, np.zeros(300, np.int64))


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("forest", lambda: preference_forest(preferences([votes((RNG.random(300) < 0.6) * 1.0)], 0.05), 0.05, "votes", True)),
        ("ties", lambda: outcome_bars(preferences([votes(np.full(300, 0.5)), votes(np.ones(300))]))),
        ("metrics", lambda: metric_forest([measure(measured(RNG.random((300, 3)), direction="lower"))])),
        ("ranks", lambda: critical_difference_diagram([arm_ranks(measured(RNG.random((300, 3)))) for _ in range(3)])),
        ("profiles", lambda: profile_plot([profiles(measured(RNG.random((300, 3))), draws=99)])),
        ("calibration", lambda: calibration_plot([calibration(beside())], True)),
        ("floor", lambda: precision_floor(StudyDesign(concepts=8, seeds=2, participants=9), Spread())),
        ("cloud", lambda: raincloud([measured(RNG.random((300, 3))), measured(np.ones((4, 3)), "constant", "none")])),
    ],
)
def test_a_figure_is_a_picture_in_three_formats(name, draw):
    files = ReportFigure(name, "what it shows", draw()).files()
    assert set(files) == {f"{name}.svg", f"{name}.pdf", f"{name}.png"}
    assert files[f"{name}.svg"].startswith(b"<?xml")
    assert files[f"{name}.pdf"].startswith(b"%PDF")
    with Image.open(io.BytesIO(files[f"{name}.png"])) as picture:
        assert picture.width > 1000
        assert len(picture.convert("L").getcolors(256) or []) > 20


def test_the_gallery_shows_references_and_arms_and_what_is_gone():
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(stream, "PNG")
    red = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    arms = tuple(GalleryImage(arm, uri) for arm, uri in zip(ARMS, (red, red, ""), strict=True))
    references = (GalleryImage("dog", red), GalleryImage("dog", red), GalleryImage("$cat", red))
    exhibit = GalleryRow("dog-$cat", 3, "a dog", references, arms, (VoteCounts(ARMS[0], ARMS[1], 3, 1, 1),))
    figure = case_gallery([exhibit, GalleryRow("alone", 0, "", (), arms[:1], ())], simulated=True)
    assert sum(bool(axes.images) for axes in figure.axes) == 2 + 2 + 1
    files = ReportFigure("gallery", "told", figure).files()
    assert set(files) == {"gallery.svg", "gallery.pdf", "gallery.png"}
    assert Image.open(io.BytesIO(files["gallery.png"])).width > 1000


def test_calibration_groups_whole_comparisons_and_rises_where_a_metric_foresees_people():
    judged = beside()
    found = calibration(judged, groups=4)
    assert sum(point.share.n for point in found.points) == 300
    assert all(point.share.n % 5 == 0 for point in found.points)
    leads = [point.lead for point in found.points]
    assert leads == sorted(leads)
    assert found.points[0].share.estimate < 0.3 < 0.7 < found.points[-1].share.estimate
    assert len(found.to_frame()) == 4


def test_few_comparisons_are_one_group_and_equal_leads_too():
    judged = beside()
    constant = Judged("dino", "dino|1", judged.votes, np.zeros(300), judged.pair)
    assert len(calibration(constant).points) == 1


def test_strengths_without_a_fit_are_not_drawn():
    with pytest.raises(ValueError, match="no fit to plot; they never met"):
        strength_plot(ArmStrengths(None, None, (), "they never met"))
