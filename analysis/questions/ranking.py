"""Ranking of all images of a page."""

import random
from collections.abc import Sequence

from analysis.questions.question_kind import CANNOT_TELL, AnswerScale, QuestionKind, pick


class ImageRanking(QuestionKind):
    """All places, the best first, such as `3 1 2`."""

    name = "ranking"
    widget = "ranking"
    measure = "preference"
    counts = (3, 8)

    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with an answer, or None."""
        if answer == CANNOT_TELL and scale.cannot_tell:
            return None
        return None if sorted(answer.split(" ")) == sorted(places) else "names every place once, the best first"

    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return 1 if the first comes before the second, else 0; 0.5 for no order."""
        order = answer.split()
        if first in order and second in order:
            return float(order.index(first) < order.index(second))
        return 1.0 if first in order else 0.0 if second in order else 0.5

    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return an order as Plackett (1975) has it."""
        left, order = list(range(len(places))), []
        while left:
            order.append(left.pop(pick(rng, [effects[number] for number in left])))
        return " ".join(places[number] for number in order)

    def buttons(self, places: Sequence[str], scale: AnswerScale) -> tuple[str, ...]:
        """Return the places, pressed one after the other."""
        return (*places, *((CANNOT_TELL,) if scale.cannot_tell else ()))
