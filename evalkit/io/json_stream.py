"""A JSON file with one very long list in it: the list item by item, and all the rest, without holding both."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

# Exceptions raised by a file that is not JSON.
BROKEN = ijson.JSONError


def items(path: Path, name: str) -> Iterator[Any]:
    """Yield the items of the list that the file's object has under `name`."""
    with path.open("rb") as stream:
        yield from ijson.items(stream, f"{name}.item", use_float=True)


def around(path: Path, name: str) -> Any:  # noqa: ANN401 -- any content of the file
    """Return what the file holds, the list under `name` empty."""
    rest = ijson.ObjectBuilder()
    inside = False
    with path.open("rb") as stream:
        for prefix, event, value in ijson.parse(stream, use_float=True):
            inside = inside and (prefix, event) != (name, "end_array")
            if not inside:
                rest.event(event, value)
            inside = inside or (prefix, event) == (name, "start_array")
    return rest.value
