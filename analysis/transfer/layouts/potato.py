"""Potato: annotated_instances as JSON lines, JSON or CSV, with schemes of the type `pairwise`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows
from analysis.transfer.vote_layout import Items, VoteLayout, chosen_arm, item_cells, milliseconds

# Potato marks its own test questions in the id
TEST_MARK = "_testing"
SEPARATOR = ":::"


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    return [row for file in files for instance in read_rows(file, named=len(files) > 1) for row in _votes(instance, items)]


def _votes(instance: SourceRow, items: Items) -> Iterator[SourceRow]:
    item = instance.text("instance_id") or instance.text("id")
    if TEST_MARK in item:
        return
    behaviour = instance.cells.get("behavioral_data")
    seconds = behaviour.get("time_spent", "") if isinstance(behaviour, Mapping) else ""
    answers = list(_answers(instance))
    for scheme, word in answers:
        cells = item_cells(item, items)
        cells |= {
            "participant": instance.text("user_id") or instance.text("user"),
            "response_ms": milliseconds(seconds),
            "chosen_arm": chosen_arm(word, cells),
        }
        # one scheme is the overall question, several are questions by their names
        yield instance.with_cells(cells | ({"question": scheme} if len(answers) > 1 else {}))


def _answers(instance: SourceRow) -> Iterator[tuple[str, str]]:
    """Yield the scheme and the answer of every pairwise scheme: `A`, `B`, `tie`, or the sign of a scale."""
    labels = instance.cells.get("label_annotations", instance.cells.get("annotations"))
    if isinstance(labels, Mapping):
        pairs = [
            (scheme, name, value)
            for scheme, given in labels.items()
            if isinstance(given, Mapping)
            for name, value in given.items()
        ]
    else:
        split = [(*column.partition(SEPARATOR)[::2], value) for column, value in instance.cells.items() if SEPARATOR in column]
        pairs = [(scheme, name, value) for scheme, name, value in split if str(value or "").strip()]
    for scheme, name, value in pairs:
        if name == "selection":
            yield str(scheme), str(value)
        elif name == "scale_value":
            yield str(scheme), _side(str(value))


def _side(scale: str) -> str:
    """Return which side a scale prefers; negative is the left."""
    try:
        value = float(scale)
    except ValueError:
        return scale
    return "left" if value < 0 else "right" if value > 0 else "tie"


potato = VoteLayout(
    "potato",
    "annotation_output of Potato, potato-annotation.readthedocs.io (pairwise annotation); --items maps instance ids",
    _read,
    needs_items=True,
)
