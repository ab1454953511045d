"""Answers as stored in the database or in an export, turned into tidy votes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.questions.question_kind import BOTH_BAD, CANNOT_TELL, is_vote_code
from analysis.transfer.tidy_vote import OVERALL, TidyVote


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One judgment or answer with its assignment, in the codes of the database."""

    assignment: int
    participant: int
    case: str
    seed: int
    arms: tuple[str, ...]
    """Arms of the comparison in the order of the experiment."""
    left: int
    """0: the first arm was on the left; 1: the second was."""
    arrangement: str
    """Of more than two images: their numbers from 0 in the order of the arms, from left to right; empty for a pair."""
    question: str
    choice: str
    """`left`, `right`, `cannot_tell`, or places on the page from 1, best first."""
    response_ms: int | None
    flags: frozenset[str]


def tidy_votes(answers: Sequence[StoredAnswer], sides_known: bool = True) -> list[TidyVote]:
    """Return the votes in the order of the answers; answers of one assignment share their position.

    Answers that name no best image (ratings, graded preferences, yes or no, comments) are not votes and are left out.
    """
    orders = vote_orders(answers)
    return [_tidy(answer, orders[answer.assignment], sides_known) for answer in answers if is_vote_code(answer.choice)]


def vote_orders(answers: Iterable[StoredAnswer]) -> dict[int, int]:
    """Return the position of each judged assignment among its participant's, from 1, in the order of the judgments."""
    counts: dict[int, int] = {}
    orders: dict[int, int] = {}
    for answer in answers:
        if answer.question == OVERALL:
            counts[answer.participant] = counts.get(answer.participant, 0) + 1
            orders[answer.assignment] = counts[answer.participant]
    return orders


def _tidy(answer: StoredAnswer, order: int, sides_known: bool) -> TidyVote:
    if answer.arrangement:
        shown = tuple(answer.arms[int(number)] for number in answer.arrangement.split())
    else:
        shown = answer.arms if not answer.left else answer.arms[::-1]
    if answer.choice in (CANNOT_TELL, BOTH_BAD):
        best: tuple[str, ...] = ()
    elif answer.choice in ("left", "right"):
        best = (shown[answer.choice == "right"],)
    else:
        best = tuple(shown[int(position) - 1] for position in answer.choice.split())
    return TidyVote(
        f"P{answer.participant}", answer.case, answer.seed, shown, best, answer.question, sides_known, order,
        answer.response_ms, answer.flags,
    )  # fmt: skip


def row_flags(marks: Mapping[str, object]) -> frozenset[str]:
    """Return the flags whose mark is set."""
    return frozenset(name for name, is_set in marks.items() if is_set)
