"""Choice of one image: of two the better one, of more the best one."""

import random
from collections.abc import Sequence

from analysis.questions.question_kind import AnswerScale, QuestionKind, declined, pick


class ImageChoice(QuestionKind):
    """One image, or where the question offers it `cannot_tell` or `both_bad` (none is good)."""

    name = "choice"
    widget = "buttons"
    measure = "preference"

    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with an answer, or None."""
        offered = self.buttons(places, scale)
        return None if answer in offered else f"is one of {', '.join(offered)}"

    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return 1 if the first was chosen, 0 if the second was, 0.5 if neither was."""
        return {first: 1.0, second: 0.0}.get(answer, 0.5)

    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return the place chosen, or with probability 0.1 an answer that prefers none."""
        other = declined(scale)
        return rng.choice(other) if other and rng.random() < 0.1 else places[pick(rng, effects)]

    def buttons(self, places: Sequence[str], scale: AnswerScale) -> tuple[str, ...]:
        """Return the places and what else is offered."""
        return (*places, *declined(scale))
