"""What the service tells the pages: who visits, what there is to judge, what comes next."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from study_app.plan.flow import Progress


@dataclass(frozen=True)
class Visitor:
    """A participant as the pages know them."""

    id: int
    progress: Progress
    completion_code: str
    language: str | None
    token_sha256: str


@dataclass(frozen=True)
class ShownConcept:
    """A concept above the images: its letter, its plain word, the URLs of its images."""

    letter: str
    word: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class TrialPage:
    """What one page of images to judge shows; `owner` is the id of the assignment or check, or the number of a practice.

    `key` names the page in the browser and tells nothing; `upcoming` are URLs of images that may come next.
    """

    kind: Literal["comparison", "check", "practice"]
    owner: int
    question: str
    key: str
    concepts: tuple[ShownConcept, ...]
    # the places on the page, which are the answers, and the URL of the image at each
    places: tuple[str, ...]
    images: tuple[str, ...]
    # whether all are ranked, not only the best one named
    ranking: bool
    # width and height in pixels of the largest of the images
    size: tuple[int, int]
    done: int
    total: int
    upcoming: tuple[str, ...] = ()
    # at the participant's own pace; None while that is not known
    minutes_left: int | None = None
    # the assignment whose judgment may still be taken back
    undoable: int | None = None
    # which question of how many about these images; 1 of 1 where there is only the first
    question_number: int = 1
    question_count: int = 1
    # the answer that practice teaches; the page has none for other trials
    right_answer: str = ""


@dataclass(frozen=True)
class Turn:
    """What comes next for a participant: a page, or why there is none: the study is closed, they rest, or all is done.

    `visitor` is who they are at this moment, told with a page alone.
    """

    trial: TrialPage | None
    visitor: Visitor | None = None
    is_open: bool = True
    resting_until: datetime | None = None
    # all that is left is held by others at this moment
    is_waiting: bool = False
    is_locked: bool = False
    # their session ended because of failed checks
    is_ended: bool = False


def letter(number: int) -> str:
    """Return A, B, ... for 0, 1, ...; past Z it counts on as A2, B2, ..."""
    return chr(ord("A") + number % 26) + ("" if number < 26 else str(number // 26 + 1))
