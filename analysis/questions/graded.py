"""Graded preference between two images, in 5 or 7 steps."""

import random
from collections.abc import Sequence
from typing import ClassVar

from analysis.questions.question_kind import AnswerScale, QuestionKind, Widget, logistic_noise

EQUAL = "equal"


class GradedPreference(QuestionKind):
    """How much better one of two images is: `left_3` ... `left_1`, `equal`, `right_1` ... `right_3`."""

    name = "graded"
    widget: ClassVar[Widget] = "buttons"
    measure = "preference"
    counts = (2, 2)

    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with an answer, or None."""
        most = self.strongest(scale)
        strength = strength_of(answer)
        return None if strength is not None and abs(strength) <= most else f"is {EQUAL}, or left_N or right_N up to {most}"

    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return a preference from 0 to 1, in equal steps."""
        strength = strength_of(answer)
        if strength is None:
            return None
        towards_right = strength / self.strongest(scale)
        return 0.5 + (towards_right if first == "right" else -towards_right) / 2

    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return the step next to a noisy difference of the effects, of which 3 logits reach the end of the scale."""
        most = self.strongest(scale)
        towards_right = effects[1] - effects[0] + logistic_noise(rng)
        return code_of(max(-most, min(most, round(towards_right * most / 3))))

    def buttons(self, places: Sequence[str], scale: AnswerScale) -> tuple[str, ...]:
        """Return all steps from left to right."""
        most = self.strongest(scale)
        return tuple(code_of(strength) for strength in range(-most, most + 1))

    def strongest(self, scale: AnswerScale) -> int:
        """Return how many steps there are to either side."""
        return scale.steps // 2


def code_of(strength: int) -> str:
    """Return the answer for a strength below (left) or above (right) zero."""
    return EQUAL if strength == 0 else f"{'left' if strength < 0 else 'right'}_{abs(strength)}"


def strength_of(answer: str) -> int | None:
    """Return the strength of an answer, None if it is not one."""
    if answer == EQUAL:
        return 0
    side, _, steps = answer.partition("_")
    if side not in ("left", "right") or not steps.isdecimal() or int(steps) == 0 or steps != str(int(steps)):
        return None
    return -int(steps) if side == "left" else int(steps)
