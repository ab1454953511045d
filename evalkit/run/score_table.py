"""Scores on disk: one row per image and metric, in RUN/scores.parquet."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pyarrow.parquet import ParquetFile

FILE_NAME = "scores.parquet"
# Rows that are in memory at once while a file is written or read: some 10 MB.
GROUP = 10_000
Direction = Literal["higher", "lower", "none"]
Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The value of one metric for one image; `concept` is set where references of several concepts were given."""

    image: str
    image_sha256: str
    metric: str
    concept: str
    value: float
    direction: Direction
    signature: str


@dataclass(frozen=True, slots=True)
class RunScore:
    """The value of one metric for one image.

    `concept` is set if a metric compares the image with one concept's references, `other_arm` if it compares it with
    the image of another arm at the same case and seed; otherwise both are empty. `value` is finite: a score that could not
    be computed has no row.
    """

    case: str
    arm: str
    seed: int
    image_sha256: str
    metric: str
    concept: str
    other_arm: str
    value: float
    direction: Direction
    signature: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.metric} of {self.case}/{self.arm}/{self.seed}: {self.value} is not a finite score")


def write_scores(run: Path, rows: Iterable[RunScore]) -> Path:
    """Write all rows of a run to its score file, whole or not at all, and return the file."""
    return write_rows(run / FILE_NAME, RunScore, rows)


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> Path:
    """Write rows of one kind as Parquet, a column per field, whole or not at all, and return the file.

    Rows are taken and written `GROUP` at a time, so any number of them fits into memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"value": pa.float64(), **dict.fromkeys(("seed", "images", "others"), pa.int64())}
    names = [field.name for field in fields(kind)]
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    coming = iter(rows)
    with temporary_beside(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while group := list(islice(coming, GROUP)):
            columns = {name: [getattr(row, name) for row in group] for name in names}
            writer.write_table(pa.table(columns, schema=schema))
    return path


class ParquetRows(Generic[Row]):
    """The rows of one kind in a Parquet file, read `GROUP` at a time as they are asked for."""

    def __init__(self, path: Path, kind: type[Row]) -> None:
        """Look at the file's head; raise a UserError if it does not contain such rows."""
        self.path, self.kind = path, kind
        names = [field.name for field in fields(kind)]
        with _opened(path) as file:
            self._count: int = file.metadata.num_rows
            columns = file.schema_arrow.names
        if columns != names:
            raise UserError(f"{path}: has the columns {columns}, not {names}; score the run again")

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._count

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order."""
        with _opened(self.path) as file:
            for batch in file.iter_batches(batch_size=GROUP):
                for row in batch.to_pylist():
                    yield self._row(row)

    def _row(self, values: dict[str, Any]) -> Row:
        try:
            return self.kind(**values)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path}: {error}; remove the file and score the run again") from error

    def distinct(self, column: str) -> list[str]:
        """Return the different values of a column in the order they first appear."""
        values: dict[str, None] = {}
        with _opened(self.path) as file:
            for batch in file.iter_batches(batch_size=GROUP, columns=[column]):
                values.update(dict.fromkeys(batch.column(0).unique().to_pylist()))
        return list(values)

    def read_through(self) -> None:
        """Read every page; raise a UserError if one is damaged."""
        with _opened(self.path) as file:
            for _ in file.iter_batches(batch_size=GROUP):
                pass


@contextmanager
def _opened(path: Path) -> "Iterator[ParquetFile]":
    """Give a Parquet file to read; what can't be read, then or later, is a UserError that names it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a score file: {error}; remove it and run `evalkit score` again") from error


def stored_scores(run: Path) -> ParquetRows[RunScore]:
    """Return the rows of a run's score file, which are read only as they are asked for.

    Raises:
        UserError: it is missing, or is not a score table.
    """
    path = run / FILE_NAME
    if not path.exists():
        raise UserError(f"{run}: contains no {FILE_NAME}; make it with `evalkit score {run}`")
    return ParquetRows(path, RunScore)


def read_scores(run: Path) -> list[RunScore]:
    """Return all rows of a run's score file at once; raise a UserError as `stored_scores` does."""
    return list(stored_scores(run))
