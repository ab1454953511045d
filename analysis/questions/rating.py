"""Rating of every image of a page."""

import math
import random
from collections.abc import Sequence

from analysis.questions.question_kind import AnswerScale, QuestionKind, logistic_noise, per_place


class ImageRating(QuestionKind):
    """A number for every image, from `least` to `most`, such as `left:4 right:2`; Likert scales and 0 to 100."""

    name = "rating"
    widget = "per_image"
    measure = "rating"

    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with an answer, or None."""
        values = per_place(answer)
        if list(values) != list(places) or len(answer.split()) != len(places):
            return "needs a number for every image"
        for text in values.values():
            try:
                value = float(text)
            except ValueError:
                return f"{text!r} is not a number"
            if not math.isfinite(value) or not scale.least <= value <= scale.most:
                return f"{text} is not between {scale.least:g} and {scale.most:g}"
            if abs((value - scale.least) / scale.step - round((value - scale.least) / scale.step)) > 1e-6:
                return f"{text} is not a step of {scale.step:g} from {scale.least:g}"
        return None

    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return the first rating minus the second."""
        one, other = self.level(answer, first), self.level(answer, second)
        return None if one is None or other is None else one - other

    def level(self, answer: str, place: str) -> float | None:
        """Return the rating of the image at a place."""
        value = per_place(answer).get(place)
        return None if value is None else float(value)

    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return ratings next to the noisy effects; the middle of the scale is an effect of 0, and 3 logits reach its ends."""
        ratings = []
        for place, effect in zip(places, effects, strict=True):
            share = min(1.0, max(0.0, 0.5 + (effect + logistic_noise(rng)) / 6))
            value = scale.least + scale.step * round(share * (scale.values - 1))
            ratings.append(f"{place}:{value:g}")
        return " ".join(ratings)
