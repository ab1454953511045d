"""Screen check: page size and colour plates."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy.orm import Session

from db.models import Participant, Screen
from evalkit.run.file_record import Record
from study_app.plan.audit_log import append
from study_app.plan.color_plates import PLATES, POOL, plate_number
from study_app.plan.log_start import new_salt, screen_commitment

Failure = Literal["size", "colour"]
# A slip of the keyboard must not send anyone away: as many tries at plates, each time other ones.
ATTEMPTS = 2
_MOST_PIXELS = 100_000


class ScreenRule(Record):
    """What a screen must have: a page of this size in CSS pixels (zooming in makes it smaller), and colours that can be told.

    Who fails is refused, or warned and let in; what was found is stored either way.
    """

    least_width: int | None = Field(default=None, ge=1, le=4000)
    least_height: int | None = Field(default=None, ge=1, le=4000)
    colour: bool = False
    on_failure: Literal["refuse", "warn"] = "refuse"


@dataclass(frozen=True)
class ScreenSize:
    """Size of a page in CSS pixels and device pixels per CSS pixel, as reported by the browser; None if not reported."""

    width: int | None = None
    height: int | None = None
    pixel_ratio: float | None = None

    @classmethod
    def told(cls, given: object) -> "ScreenSize":
        """Return what a browser claims, without anything that can't be true."""
        if not isinstance(given, Mapping):
            return cls()
        numbers = {
            name: value
            for name, value in given.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST_PIXELS
        }
        width, height, ratio = (numbers.get(name) for name in ("width", "height", "pixel_ratio"))
        return cls(
            None if width is None else round(width),
            None if height is None else round(height),
            None if ratio is None else ratio,
        )


def plates_of(participant: Participant, attempt: int) -> tuple[str, ...]:
    """Return the seeds of the plates a participant reads at an attempt (0, 1)."""
    order = random.Random(f"plates {participant.seed}").sample(range(POOL), PLATES * ATTEMPTS)
    return tuple(str(seed) for seed in order[PLATES * attempt : PLATES * (attempt + 1)])


def check_screen(
    session: Session, rule: ScreenRule, participant_id: int, page: ScreenSize, read: Sequence[str], now: datetime
) -> Failure | None:
    """Store what a participant's screen showed and return what the rule finds wanting.

    A page that is too small can be made larger and checked again; plates can be read ATTEMPTS times. The step is done where
    nothing is wanting, where the rule only warns, and where no attempt is left. Call it inside `write`.
    """
    participant = session.get_one(Participant, participant_id, with_for_update=True)
    screen = session.get(Screen, participant_id)
    if participant.screened_at is not None:
        return _failure(screen)
    if screen is None:
        screen = Screen(participant_id=participant_id, attempts=0, checked_at=now)
        session.add(screen)
    plates = [plate_number(seed) for seed in plates_of(participant, screen.attempts)] if rule.colour else []
    right = sum(answer.strip() == number for answer, number in zip(read, plates, strict=False))
    screen.width, screen.height, screen.checked_at = page.width, page.height, now
    screen.pixel_ratio = None if page.pixel_ratio is None else float(page.pixel_ratio)
    screen.plates, screen.plates_read = len(plates), right
    small = [
        have is not None and least is not None and have < least
        for have, least in ((page.width, rule.least_width), (page.height, rule.least_height))
    ]
    failure: Failure | None = "size" if any(small) else "colour" if right < len(plates) else None
    screen.failure = failure
    if failure != "size":
        screen.attempts += 1
    lost = failure == "colour" and screen.attempts >= ATTEMPTS
    done = failure is None or rule.on_failure == "warn" or lost
    if done:
        participant.screened_at = now
    screen.salt = new_salt()
    session.flush()
    # what the screen showed can be erased, so the log commits to it without its content
    content = {"participant": participant_id, "commitment": screen_commitment(screen), "done": done}
    append(session, participant.study_id, "screened", content, now)
    return failure


def _failure(screen: Screen | None) -> Failure | None:
    if screen is None or screen.failure is None:
        return None
    return "size" if screen.failure == "size" else "colour"
