"""Recruiter parameters in the participants' links (Prolific, MTurk)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Source = Literal["prolific", "mturk"]
# who, and which visit
PARAMETERS: dict[Source, tuple[str, str]] = {
    "prolific": ("PROLIFIC_PID", "SESSION_ID"),
    "mturk": ("workerId", "assignmentId"),
}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Recruited:
    """A recruiter's ids of a participant and of their visit."""

    source: Source
    external_id: str
    session_id: str | None


def read_parameters(source: Source, parameters: Mapping[str, str]) -> Recruited | None:
    """Return the recruiter's ids in a link, None if they are missing or malformed."""
    who, visit = (parameters.get(name, "") for name in PARAMETERS[source])
    if not _ID.fullmatch(who):
        return None
    return Recruited(source, who, visit if _ID.fullmatch(visit) else None)


def names_someone(parameters: Mapping[str, str]) -> bool:
    """Return whether a link has recruiter parameters, which must not stay in the address."""
    return any(name in parameters for names in PARAMETERS.values() for name in names)
