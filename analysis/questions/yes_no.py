"""A yes or no for every image of a page."""

import math
import random
from collections.abc import Sequence

from analysis.questions.question_kind import AnswerScale, QuestionKind, per_place

VALUES = {"yes": 1.0, "no": 0.0}


class YesNo(QuestionKind):
    """Yes or no for every image, such as `left:yes right:no`: is a concept present?"""

    name = "yes_no"
    widget = "per_image"
    measure = "share"

    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with an answer, or None."""
        values = per_place(answer)
        whole = list(values) == list(places) and len(answer.split()) == len(places) and set(values.values()) <= set(VALUES)
        return None if whole else "needs yes or no for every image"

    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return the difference of both, from -1 to 1."""
        one, other = self.level(answer, first), self.level(answer, second)
        return None if one is None or other is None else one - other

    def level(self, answer: str, place: str) -> float | None:
        """Return 1 for yes and 0 for no."""
        return VALUES.get(per_place(answer).get(place, ""))

    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return yes with the probability that an effect has in logits."""
        return " ".join(
            f"{place}:{'yes' if rng.random() < 1 / (1 + math.exp(-effect)) else 'no'}"
            for place, effect in zip(places, effects, strict=True)
        )
