"""Checks of the arguments that a caller passes in Python, each with one line that states what is allowed."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from evalkit.errors import UserError


def whole_number(name: str, value: Any, *, least: int = 1) -> int:  # noqa: ANN401 -- whatever a caller gave
    """Return a whole number of at least `least`.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value!r}: give a whole number of at least {least}")
    return value


def file_path(name: str, value: Any) -> Path:  # noqa: ANN401 -- whatever a caller gave
    """Return a path; raise a UserError if the value is neither a text nor a path."""
    if not isinstance(value, (str, PathLike)) or not str(value):
        raise UserError(f"{name}: is {value!r}, not a path; give a text or a pathlib.Path")
    return Path(value)


def paths_by_name(name: str, table: Any) -> dict[str, Path]:  # noqa: ANN401 -- whatever a caller gave
    """Return a table from names to paths, empty for None.

    Raises:
        UserError: it is not a mapping, or an entry is not a path.
    """
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise UserError(f"{name}: is of type {type(table).__name__}; give a mapping from names to paths")
    return {str(key): file_path(f"{name}[{key!r}]", value) for key, value in table.items()}


def iterable(name: str, value: Any, what: str) -> Iterable[Any]:  # noqa: ANN401 -- whatever a caller gave
    """Return something to iterate over; `what` states what to give otherwise.

    Raises:
        UserError: it is not iterable.
    """
    if not isinstance(value, Iterable):
        raise UserError(f"{name}: is of type {type(value).__name__}; give {what}")
    return value
