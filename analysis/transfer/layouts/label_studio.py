"""Label Studio: JSON export of tasks with Pairwise, Choices, Rating or Ranker results, and JSON-MIN."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows
from analysis.transfer.vote_layout import Items, VoteLayout, chosen_arm, item_cells, milliseconds


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    return [row for file in files for task in read_rows(file, named=len(files) > 1) for row in _votes(task, items)]


def _votes(task: SourceRow, items: Items) -> Iterator[SourceRow]:
    annotations = task.cells.get("annotations")
    if not isinstance(annotations, list):
        yield _minimal(task, items)
        return
    data = task.cells.get("data")
    data = data if isinstance(data, Mapping) else {}
    known = item_cells(str(data.get("item", task.cells.get("id"))), items) if items else dict(data)
    for number, annotation in enumerate(annotations, start=1):
        if annotation.get("was_cancelled"):
            continue
        about = known | {
            "participant": _person(annotation.get("completed_by")),
            "response_ms": milliseconds(annotation.get("lead_time", "")),
        }
        location = f", annotation {number}" if len(annotations) > 1 else ""
        results = annotation.get("result", ())
        for result in results:
            # one control is the overall question, several are questions by their names
            question = {} if len(results) == 1 or "question" in known else {"question": result.get("from_name", "")}
            yield task.with_cells(about | question | _answer(result, about), location)


def _answer(result: Mapping[str, object], about: Mapping[str, object]) -> dict[str, object]:
    value = result.get("value")
    value = value if isinstance(value, Mapping) else {}
    if "rating" in value:
        return {"rating": value["rating"]}
    chosen = value.get("selected", value.get("choices", ""))
    word = str(chosen[0]) if isinstance(chosen, list) and chosen else str(chosen)
    return {"chosen_arm": chosen_arm(word, about)}


def _minimal(task: SourceRow, items: Items) -> SourceRow:
    """Return the vote of a JSON-MIN row: the task's data, the annotator, and one key per control."""
    about = dict(task.cells) | (item_cells(task.text("item") or task.text("id"), items) if items else {})
    word = next((task.text(name) for name in ("pairwise", "pw", "choice", "comparison") if task.text(name)), "")
    about |= {"participant": task.text("annotator"), "response_ms": milliseconds(task.cells.get("lead_time", ""))}
    return task.with_cells(about | {"chosen_arm": chosen_arm(word, about)})


def _person(completed_by: object) -> str:
    return str(completed_by.get("id", "")) if isinstance(completed_by, Mapping) else str(completed_by)


label_studio = VoteLayout(
    "label-studio",
    "JSON or JSON-MIN export, labelstud.io/guide/task_format; tasks hold case, seed, arm_left and arm_right, or --items",
    _read,
)
