"""Terminal output of all commands: progress bars, tables, JSON, and the line that names the next command."""

import json
import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def stdout() -> Console:
    """Return the console for results; it breaks no line and reads no markup or colour into names."""
    return Console(soft_wrap=True, highlight=False)


def stderr() -> Console:
    """Return the console for progress, notes and warnings."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def progress_bar() -> Progress:
    """Return a progress bar on standard error; it disappears from a terminal when it ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=stderr(), transient=True)


def task(bar: Progress, description: str) -> Callable[[int, int], None]:
    """Add a task to the bar; return the function that sets its progress to `done` of `total`."""
    added = bar.add_task(description, total=None)

    def update(done: int, total: int) -> None:
        bar.update(added, completed=done, total=total)

    return update


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1, title: str | None = None) -> Table:
    """Return a table whose first `names` columns are never wrapped or cut; the others wrap."""
    cells = [tuple(row) for row in rows]
    made = Table(title=title)
    for column, header in enumerate(headers):
        if column < names:
            width = max(len(text) for text in (header, *(row[column] for row in cells)))
            made.add_column(header, no_wrap=True, min_width=width)
        else:
            made.add_column(header, overflow="fold")
    for row in cells:
        made.add_row(*(escaped(text) for text in row))
    return made


def escaped(text: str) -> str:
    """Return text in which rich finds no markup."""
    from rich.markup import escape

    return escape(text)


def print_table(made: Table) -> None:
    """Print a table on standard output; if its names need more columns than the terminal has, its lines are longer."""
    console = Console(highlight=False)
    needed = made.__rich_measure__(console, console.options.update(max_width=10_000)).minimum
    console.width = max(console.width, needed)
    console.print(made)


def print_json(document: object) -> None:
    """Print a document as JSON on standard output; dataclasses, paths, dates and enumerations are converted, NaN is null."""
    sys.stdout.write(json.dumps(plain(document), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:  # noqa: ANN401 -- any value a command reports
    """Return a value as JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(held) for held in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, date):  # a datetime is a date
        return value.isoformat()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    number = float(value)  # a float, or a NumPy scalar
    return int(number) if hasattr(value, "dtype") and value.dtype.kind in "iu" else number if math.isfinite(number) else None


def command_line(*words: str | Path) -> str:
    """Return `evalkit WORDS` as it can be pasted into this terminal, with the program's path where `evalkit` is not on PATH."""
    return shlex.join([program(), *map(str, words)])


def program() -> str:
    """Return how this terminal starts evalkit: by its name if PATH finds this installation, else by its path."""
    started = Path(sys.argv[0])
    if started.name in ("__main__.py", "-c", "-m"):
        return "evalkit"
    on_path = shutil.which(started.name)
    if on_path is not None and Path(on_path).resolve() == started.resolve():
        return started.name
    return str(started) if started.exists() else "evalkit"
