"""Ratings of single images turned into votes on pairs, by a stated rule."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True, slots=True)
class RatingRule:
    """How two ratings by one participant become a vote: the better one wins, close ones tie."""

    tie_within: float = 0.0
    """Ratings that differ by at most this much are a tie, in the unit of the ratings."""
    lower_is_better: bool = False

    def __str__(self) -> str:
        better = "lower" if self.lower_is_better else "higher"
        tie = "equal ratings are a tie" if not self.tie_within else f"ratings at most {self.tie_within:g} apart are a tie"
        return f"per participant, case and seed, the {better} rating of two images wins, and {tie}"


@dataclass(frozen=True, slots=True)
class Scale:
    """One rating, by question and participant."""

    question: str
    participant: str
    value: float


def pairs_of_ratings(ratings: Mapping[str, float], rule: RatingRule) -> Iterator[tuple[str, str, str | None]]:
    """Yield every pair of arms with the winner, or None for a tie.

    >>> list(pairs_of_ratings({"a": 1.0, "b": 0.5, "c": 1.0}, RatingRule()))
    [('a', 'b', 'a'), ('a', 'c', None), ('b', 'c', 'c')]
    """
    for first, second in combinations(ratings, 2):
        difference = ratings[first] - ratings[second]
        if abs(difference) <= rule.tie_within + 1e-12:
            yield first, second, None
        else:
            yield first, second, first if (difference > 0) != rule.lower_is_better else second


def scales_of(ratings: Sequence[Scale]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the lowest and highest rating of each participant by question."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        values[rating.question][rating.participant].append(rating.value)
    return {question: {who: (min(given), max(given)) for who, given in people.items()} for question, people in values.items()}


def scale_note(scales: Mapping[str, Mapping[str, tuple[float, float]]]) -> list[str]:
    """Return one sentence per question: the range of its ratings, and participants who seem to use another scale."""
    notes = []
    for question, people in scales.items():
        low, high = min(low for low, _ in people.values()), max(high for _, high in people.values())
        note = f"question {question!r}: ratings from {low:g} to {high:g}"
        widest = sorted(high - low for low, high in people.values())
        middle = widest[len(widest) // 2]
        odd = [who for who, (least, most) in people.items() if middle and most - least > 2.5 * middle]
        if odd:
            note += f"; {', '.join(odd)} used a range more than 2.5 times as wide as others, check for mixed scales"
        notes.append(note)
    return notes
