"""Graded preference between two images, by a slider."""

from collections.abc import Sequence

from analysis.questions.graded import GradedPreference
from analysis.questions.question_kind import AnswerScale

SLIDER_STEPS = 100
"""Steps to either side."""


class SliderPreference(GradedPreference):
    """How much better one of two images is, by a slider of 100 steps to either side."""

    name = "slider"
    widget = "slider"

    def buttons(self, places: Sequence[str], scale: AnswerScale) -> tuple[str, ...]:
        """Return nothing: a slider has no buttons."""
        return ()

    def strongest(self, scale: AnswerScale) -> int:
        """Return how many steps there are to either side."""
        return SLIDER_STEPS
