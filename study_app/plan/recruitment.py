"""Where participants come from: Prolific's and MTurk's parameters of the link, read once and never shown again."""

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
    """The identity a recruiter gives a visitor."""

    source: Source
    external_id: str
    session_id: str | None


def read_parameters(source: Source, parameters: Mapping[str, str]) -> Recruited | None:
    """Return the visitor's identity from a recruiter's link, None if the link has none or an invalid one."""
    who, visit = (parameters.get(name, "") for name in PARAMETERS[source])
    if not _ID.fullmatch(who):
        return None
    return Recruited(source, who, visit if _ID.fullmatch(visit) else None)


def names_someone(parameters: Mapping[str, str]) -> bool:
    """Tell whether a link carries any recruiter's parameters, which must not stay in the address."""
    return any(name in parameters for names in PARAMETERS.values() for name in names)
