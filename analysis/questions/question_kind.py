"""Base of all kinds of questions: how an answer is written, validated, simulated, and turned into a number per pair of arms."""

import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

CANNOT_TELL, BOTH_BAD = "cannot_tell", "both_bad"
Widget = Literal["buttons", "ranking", "per_image", "slider", "text"]
Measure = Literal["preference", "rating", "share", "count"]


@dataclass(frozen=True, slots=True)
class AnswerScale:
    """What a question offers, beside the images themselves."""

    steps: int = 7
    """Buttons of a graded preference, 5 or 7."""
    least: float = 1.0
    most: float = 5.0
    step: float = 1.0
    cannot_tell: bool = False
    both_bad: bool = False
    required: bool = True

    @property
    def values(self) -> int:
        """Return how many values a rating can take."""
        return 1 + round((self.most - self.least) / self.step)


class QuestionKind(ABC):
    """A kind of question: one subclass per file, listed in `analysis.questions.kinds.QUESTION_KINDS`.

    `places` are the names of the places on the page, `left` and `right` or `1`, `2`, ...; an answer names places, never arms.
    """

    name: ClassVar[str]
    widget: ClassVar[Widget]
    measure: ClassVar[Measure]
    counts: ClassVar[tuple[int, int]] = (2, 8)
    """Fewest and most images on a page that such a question can be asked about."""

    @abstractmethod
    def problem(self, answer: str, places: Sequence[str], scale: AnswerScale) -> str | None:
        """Return what is wrong with an answer, or None."""

    @abstractmethod
    def pair_value(self, answer: str, places: Sequence[str], first: str, second: str, scale: AnswerScale) -> float | None:
        """Return what an answer states about the images at two places, None for nothing.

        A preference is 1 for the first, 0 for the second and 0.5 for neither; a rating or a share is first minus second.
        """

    def level(self, answer: str, place: str) -> float | None:
        """Return the value that an answer gives the image at one place; None for kinds that only compare."""
        return None

    @abstractmethod
    def simulate(self, rng: random.Random, places: Sequence[str], effects: Sequence[float], scale: AnswerScale) -> str:
        """Return a simulated answer about images of arms with these effects (logits), in page order."""

    def buttons(self, places: Sequence[str], scale: AnswerScale) -> tuple[str, ...]:
        """Return the answers that are buttons, in reading order."""
        return ()


def declined(scale: AnswerScale) -> tuple[str, ...]:
    """Return the answers that prefer no image."""
    return (*((CANNOT_TELL,) if scale.cannot_tell else ()), *((BOTH_BAD,) if scale.both_bad else ()))


def pick(rng: random.Random, effects: Sequence[float]) -> int:
    """Return the number of the image chosen among several (Luce 1959)."""
    best = max(effects)
    return rng.choices(range(len(effects)), [math.exp(effect - best) for effect in effects])[0]


def logistic_noise(rng: random.Random) -> float:
    """Return a logistic random number with mean 0 and scale 1."""
    uniform = min(max(rng.random(), 1e-12), 1 - 1e-12)
    return math.log(uniform / (1 - uniform))


def per_place(answer: str) -> dict[str, str]:
    """Return the value at each place of an answer such as `left:4 right:2`."""
    pairs = [part.split(":") for part in answer.split()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def is_vote_code(answer: str) -> bool:
    """Return whether an answer names the best places of a page, as judgments do."""
    return answer in ("left", "right", CANNOT_TELL, BOTH_BAD) or all(part.isdigit() for part in answer.split())


def base_name(question: str) -> str:
    """Return the name of a question in the design.

    >>> base_name("concept 1"), base_name("present 0"), base_name("quality")
    ('each_concept', 'present', 'quality')
    """
    base = re.sub(r" \d+$", "", question)
    return "each_concept" if base == "concept" else base
