"""Conventions: what different tools make of the same cosine, and which text and references they take it with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Reference = TypeVar("Reference")


@dataclass(frozen=True)
class Convention:
    """How a cosine becomes a score: `factor` times it, negative ones counted as 0 if it is `clamped`."""

    factor: float = 1.0
    clamped: bool = False
    # put before every prompt
    prefix: str = ""
    # one reference per image, the first, where others take the mean over all
    first_reference: bool = False

    def text(self, prompt: str) -> str:
        """Return what an image is compared with for a prompt."""
        return self.prefix + prompt

    def references(self, shown: Sequence[Reference]) -> Sequence[Reference]:
        """Return those of a concept's references that count."""
        return shown[:1] if self.first_reference else shown

    def score(self, cosine: float) -> float:
        """Return the score of a cosine."""
        return self.factor * (max(cosine, 0.0) if self.clamped else cosine)

    def cosine(self, score: float) -> float:
        """Return the cosine of a score.

        Raises:
            ValueError: the score is 0 because a negative cosine was clamped, so it is unknown.
        """
        if self.clamped and score <= 0:
            raise ValueError("it is 0, to which every negative cosine was clamped")
        return score / self.factor

    def reduction(self, plain: str) -> str:
        """Return the part of a signature that describes this, made from that of a plain cosine.

        >>> Convention(factor=2.5, clamped=True).reduction("cos")
        '2.5*max(cos,0)'
        >>> Convention(factor=100, first_reference=True).reduction("cos-mean-refs")
        '100*cos-first-ref'
        """
        description = plain.replace("mean-refs", "first-ref") if self.first_reference else plain
        description = description.replace("cos", "max(cos,0)", 1) if self.clamped else description
        description = f"{self.factor:g}*{description}" if self.factor != 1 else description
        return f"{description}-of:{self.prefix.strip()}..." if self.prefix else description


PLAIN = Convention()
