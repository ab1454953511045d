"""Free comment on the images of a page."""

import random
from collections.abc import Sequence

from analysis.questions.question_kind import AnswerScale, QuestionKind

MOST_CHARACTERS = 2000
WRITTEN, EMPTY = "written", "none"


class Comment(QuestionKind):
    """Free text, stored as a reply that `erase` deletes, since it may name its author; the answer states if there is one."""

    name = "comment"
    widget = "text"
    measure = "count"

    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with a text, or None."""
        if scale.required and not answer.strip():
            return "is required"
        return f"has {MOST_CHARACTERS} characters at most" if len(answer) > MOST_CHARACTERS else None

    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return None: a comment compares nothing."""
        return None

    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return a text that is marked as simulated."""
        return "simulated comment"
