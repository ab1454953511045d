"""Base record of all file formats: strict validation, types of names and numbers, readable mistakes."""

import re
import unicodedata
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from evalkit.errors import UserError

# Labels and ids become folder names, so they must be safe in a path on every system.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
NAME_RULE = "may have letters, digits, '.', '_' and '-' only, at most 100, beginning with a letter or digit"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Record(BaseModel):
    """A frozen record of a file: unknown keys are errors, and no NaN or infinity gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_name(what: str, name: str) -> str:
    """Return `name` if it can name a folder; raise a UserError that states what is allowed."""
    if not re.match(NAME_PATTERN, name):
        raise UserError(f"{what}: {name!r} {NAME_RULE}")
    return name


def safe_name(text: str) -> str:
    """Return a name that can name a folder for any text: the text itself if it can, else its letters and part of its sha256.

    >>> safe_name("direct"), safe_name("Köln & Bonn")
    ('direct', 'Koln-Bonn-93c133')
    """
    if re.match(NAME_PATTERN, text):
        return text
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")[:80]
    return f"{slug or 'id'}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def mistakes(error: ValidationError, within: str = "") -> list[str]:
    """Return every mistake of a pydantic error as `place: what`, with places like arms[2].parameters.p below `within`.

    A list that has too few entries only because some of them are wrong is not a further mistake.
    """
    items = error.errors(include_url=False)
    lines = []
    for item in items:
        inside = (other["loc"][: len(item["loc"])] == item["loc"] for other in items if len(other["loc"]) > len(item["loc"]))
        if item["type"] == "too_short" and any(inside):
            continue
        location = within
        for part in item["loc"]:
            location += f"[{part}]" if isinstance(part, int) else f".{part}" if location else str(part)
        message = _worded(item)
        lines.append(f"{location}: {message}" if location else message)
    return lines


def first_mistake(error: ValidationError) -> str:
    """Return all mistakes of a pydantic error in one line."""
    return "; ".join(mistakes(error))


# what pydantic calls a mistake, and what the reader of the file is told; {given} is what the file holds
_WORDING = {
    "missing": "is missing",
    "extra_forbidden": "unknown key; remove it or correct its spelling",
    "string_type": "must be text, not {given}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "{given} must match {pattern}",
    "int_type": "must be a whole number, not {given}",
    "int_parsing": "must be a whole number, not {given}",
    "int_from_float": "must be a whole number, not {given}",
    "float_type": "must be a number, not {given}",
    "float_parsing": "must be a number, not {given}",
    "finite_number": "must be a finite number, not {given}",
    "bool_type": "must be true or false, not {given}",
    "bool_parsing": "must be true or false, not {given}",
    "greater_than": "must be greater than {gt}, not {given}",
    "greater_than_equal": "must be at least {ge}, not {given}",
    "less_than": "must be less than {lt}, not {given}",
    "less_than_equal": "must be at most {le}, not {given}",
    "literal_error": "must be {expected}, not {given}",
    "enum": "must be {expected}, not {given}",
    "too_short": "needs at least {min_length}, not {actual_length}",
    "too_long": "may have at most {max_length}, not {actual_length}",
    "tuple_type": "must be a list, not {given}",
    "list_type": "must be a list, not {given}",
    "dict_type": "must be a table, not {given}",
    "model_type": "must be a table, not {given}",
}


def _worded(item: ErrorDetails) -> str:
    """Return what is wrong and what is allowed; pydantic's own words for what is not in the table."""
    context = item.get("ctx", {})
    if item["type"] == "string_pattern_mismatch" and context.get("pattern") == NAME_PATTERN:
        return f"{_shown(item['input'])} {NAME_RULE}"
    template = _WORDING.get(item["type"])
    if template is None:
        return item["msg"].removeprefix("Value error, ")
    return template.format(given=_shown(item["input"]), **context)


def _shown(value: object) -> str:
    """Return a value of a file, cut where it is long."""
    if isinstance(value, dict | BaseModel):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
