"""Every figure from its result object alone: readable pictures in three formats, also of awkward data."""

import io

import numpy as np
import pytest
from PIL import Image

from analysis.clusters import ConceptSets
from analysis.drawing import Drawing
from analysis.fitted import ArmStrengths
from analysis.metric_figures import metric_forest, raincloud
from analysis.paired import Measured, measure
from analysis.preference import Votes, preferences
from analysis.vote_figures import outcome_bars, preference_forest, strength_plot

RNG = np.random.default_rng(11)
ROWS = np.arange(300)
SETS = ConceptSets.of([(f"c{row // 5 % 6}", f"c{(row // 5 + 1 + row // 30) % 6}") for row in ROWS])
ARMS = ("direct", "an arm with $a_long & odd% name", "ties")


def votes(choice):
    return Votes("a", "$b_{c}$ & 100%", choice, ROWS // 5, ROWS % 7, SETS)


def measured(values, metric="dino", direction="higher"):
    return Measured(metric, f"{metric}|1", direction, ARMS, values, SETS.take(np.arange(len(values))))


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("forest", lambda: preference_forest(preferences([votes((RNG.random(300) < 0.6) * 1.0)], 0.05), 0.05, "votes", True)),
        ("ties", lambda: outcome_bars(preferences([votes(np.full(300, 0.5)), votes(np.ones(300))]))),
        ("metrics", lambda: metric_forest([measure(measured(RNG.random((300, 3)), direction="lower"))])),
        ("cloud", lambda: raincloud([measured(RNG.random((300, 3))), measured(np.ones((4, 3)), "constant", "none")])),
    ],
)
def test_a_figure_is_a_picture_in_three_formats(name, draw):
    files = Drawing(name, "what it shows", draw()).files()
    assert set(files) == {f"{name}.svg", f"{name}.pdf", f"{name}.png"}
    assert files[f"{name}.svg"].startswith(b"<?xml")
    assert files[f"{name}.pdf"].startswith(b"%PDF")
    with Image.open(io.BytesIO(files[f"{name}.png"])) as picture:
        assert picture.width > 1000
        assert len(picture.convert("L").getcolors(256) or []) > 20


def test_strengths_without_a_fit_are_not_drawn():
    with pytest.raises(ValueError, match="no fit to draw; they never met"):
        strength_plot(ArmStrengths(None, None, (), "they never met"))
