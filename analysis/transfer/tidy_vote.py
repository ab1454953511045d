"""One vote in tidy form, and its rows in a tidy file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OVERALL = "overall"
TIE = "tie"
TIES = (TIE, "both_bad")
FLAGS = ("external", "simulated", "excluded", "surplus")

PAIR_COLUMNS = ("participant", "case", "seed", "concepts", "question", "arm_left", "arm_right", "chosen_arm", "order",
                "response_ms", "flags")  # fmt: skip
UNSIDED_COLUMNS = tuple({"arm_left": "arm_a", "arm_right": "arm_b"}.get(name, name) for name in PAIR_COLUMNS)
RANK_COLUMNS = ("participant", "case", "seed", "concepts", "question", "arm", "place", "rank", "order", "response_ms", "flags")


@dataclass(frozen=True, slots=True)
class TidyVote:
    """One answer to one question about the images of two or more arms at one case and seed."""

    participant: str
    case: str
    seed: int
    shown: tuple[str, ...]
    """Arms from left to right as they were shown; in any order if `sides_known` is False."""
    best: tuple[str, ...]
    """Chosen arms, best first; empty for a tie. Arms that are not in it share the last place."""
    question: str = OVERALL
    sides_known: bool = True
    order: int | None = None
    """Position among the participant's votes, from 1."""
    response_ms: int | None = None
    flags: frozenset[str] = field(default_factory=frozenset)

    def ranks(self) -> dict[str, int]:
        """Return the rank of each arm, 1 for the best; all are 1 in a tie."""
        last = len(self.best) + 1
        return {arm: self.best.index(arm) + 1 if arm in self.best else last for arm in self.shown}


def tidy_rows(votes: Sequence[TidyVote], concepts: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the columns and rows of votes.csv; `concepts` maps a case to its concepts in the order of the prompt.

    Votes on pairs give one row per vote. If any vote is on more than two images, there is one row per vote and arm.
    """
    if any(len(vote.shown) > 2 for vote in votes):
        return RANK_COLUMNS, [row for vote in votes for row in _rank_rows(vote, concepts)]
    sided = all(vote.sides_known for vote in votes)
    return (PAIR_COLUMNS if sided else UNSIDED_COLUMNS), [_pair_row(vote, concepts) for vote in votes]


def flags_text(flags: Iterable[str]) -> str:
    """Return flags as a cell, in a fixed order."""
    given = set(flags)
    return "+".join([name for name in FLAGS if name in given])


def _pair_row(vote: TidyVote, concepts: Mapping[str, Sequence[str]]) -> list[str]:
    return [*_key(vote, concepts), *vote.shown, vote.best[0] if vote.best else TIE, *_rest(vote)]


def _rank_rows(vote: TidyVote, concepts: Mapping[str, Sequence[str]]) -> list[list[str]]:
    places = range(1, len(vote.shown) + 1)
    ranks = vote.ranks()
    return [
        [*_key(vote, concepts), arm, str(position) if vote.sides_known else "", str(ranks[arm]), *_rest(vote)]
        for position, arm in zip(places, vote.shown, strict=True)
    ]


def _key(vote: TidyVote, concepts: Mapping[str, Sequence[str]]) -> list[str]:
    return [vote.participant, vote.case, str(vote.seed), "+".join(concepts[vote.case]), vote.question]


def _rest(vote: TidyVote) -> list[str]:
    return [_number(vote.order), _number(vote.response_ms), flags_text(vote.flags)]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)
