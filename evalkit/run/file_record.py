"""Base record of all file formats: strict validation, types of names and numbers, readable mistakes."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalkit.errors import UserError

# Labels and ids become folder names, so they must be safe in a path on every system.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Record(BaseModel):
    """A frozen record of a file: unknown keys are errors, and no NaN or infinity gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_name(what: str, name: str) -> str:
    """Return `name` if it can name a folder; raise a UserError that states what is allowed."""
    if not re.match(NAME_PATTERN, name):
        raise UserError(
            f"{what} {name!r}: letters, digits, '.', '_' and '-' only, at most 100, beginning with a letter or digit"
        )
    return name


def mistakes(error: ValidationError) -> list[str]:
    """Return every mistake of a pydantic error as `place: what`, with places like arms[2].parameters.p."""
    lines = []
    for item in error.errors(include_url=False):
        location = ""
        for part in item["loc"]:
            location += f"[{part}]" if isinstance(part, int) else f".{part}" if location else str(part)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key; remove it or correct its spelling"
        lines.append(f"{location}: {message}" if location else message)
    return lines


def first_mistake(error: ValidationError) -> str:
    """Return all mistakes of a pydantic error in one line."""
    return "; ".join(mistakes(error))
