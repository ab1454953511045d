"""A layout: how the file of another tool becomes rows with the canonical columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows
from evalkit.errors import UserError

Items = Mapping[str, SourceRow]
SIDES = ("left", "right")
# what annotation tools call the first and the second of two images, and no preference
LEFT_WORDS = ("left", "a", "1", "image a", "image 1", "option a", "response a", "model_a")
RIGHT_WORDS = ("right", "b", "2", "image b", "image 2", "option b", "response b", "model_b")
TIE_WORDS = ("tie", "equal", "same", "no preference", "cannot tell", "can't tell", "both", "neither", "0")
BAD_WORDS = ("both_bad", "both bad", "tie (bothbad)", "bothbad")


@dataclass(frozen=True, slots=True)
class VoteLayout:
    """The layout of a tool's files."""

    name: str
    source: str
    """The tool, and where its layout is documented."""
    read: Callable[[Sequence[Path], Items], list[SourceRow]]
    """Returns rows with canonical columns; their places name rows of the files."""
    needs_items: bool = False
    """Whether case, seed and arms come from a table of items, since the tool's file does not hold them."""


def read_items(file: Path) -> dict[str, SourceRow]:
    """Return the rows of a table of items by their `item`.

    Its columns are item, case, seed, arm_left and arm_right (or arm_a and arm_b), and may be concepts and question.

    Raises:
        UserError: a column is missing, or an item occurs twice.
    """
    items: dict[str, SourceRow] = {}
    for row in read_rows(file):
        item = row.text("item")
        if not item or item in items:
            raise UserError(
                f"{file}: {row.place}, item: {item!r} is {'twice in the table' if item else 'empty'}; name each once"
            )
        items[item] = row
    return items


def item_cells(item: str, items: Items) -> dict[str, object]:
    """Return what a table of items says about an item; its own error if the item is unknown."""
    if item not in items:
        return {"error": f"item {item!r} is not in the table of items (--items)"}
    return {name: value for name, value in items[item].cells.items() if name != "item"}


def chosen_arm(word: str, cells: Mapping[str, object]) -> str:
    """Return the arm a tool's word for a side means, `tie`, `both_bad`, or the word itself if it is none of them.

    >>> chosen_arm("Left", {"arm_left": "ties", "arm_right": "dare"}), chosen_arm("No preference", {})
    ('ties', 'tie')
    """
    first = str(cells.get("arm_left") or cells.get("arm_a") or "")
    second = str(cells.get("arm_right") or cells.get("arm_b") or "")
    if word in (first, second):
        return word
    low = word.strip().lower()
    known = ((LEFT_WORDS, first), (RIGHT_WORDS, second), (TIE_WORDS, "tie"), (BAD_WORDS, "both_bad"))
    return next((meaning for words, meaning in known if low in words), word)


def milliseconds(seconds: object) -> str:
    """Return seconds as whole milliseconds; empty if there are none."""
    try:
        return str(round(1000 * float(str(seconds))))
    except ValueError:
        return ""
