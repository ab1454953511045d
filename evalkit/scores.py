"""Scores on disk: one row per image and metric, in RUN/scores.parquet."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from evalkit.errors import UserError
from evalkit.files import temporary_beside

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILE_NAME = "scores.parquet"
Direction = Literal["higher", "lower", "none"]
Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """The value of one metric for one image.

    `concept` is set where a metric compares the image with one concept's references, `other_arm` where it compares it with
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
            raise ValueError(f"{self.metric} of {self.case}/{self.arm}/{self.seed}: {self.value} is no score")


def write_scores(run: Path, rows: Iterable[ScoreRow]) -> Path:
    """Write all rows of a run to its score file, whole or not at all, and return the file."""
    return write_rows(run / FILE_NAME, ScoreRow, rows)


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> Path:
    """Write rows of one kind as Parquet, a column per field, whole or not at all, and return the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"seed": pa.int64(), "value": pa.float64()}
    names = [field.name for field in fields(kind)]
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    kept = list(rows)
    columns = {name: [getattr(row, name) for row in kept] for name in names}
    with temporary_beside(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)
    return path


def read_scores(run: Path) -> list[ScoreRow]:
    """Return all rows of a run's score file.

    Raises:
        UserError: there is none, or it isn't one of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / FILE_NAME
    if not path.exists():
        raise UserError(f"{run}: no {FILE_NAME} there; make it with `evalkit score {run}`")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is no score file: {error}") from error
    names = [field.name for field in fields(ScoreRow)]
    if table.column_names != names:
        raise UserError(f"{path}: has the columns {table.column_names}, not {names}; score the run again")
    return [ScoreRow(**row) for row in table.to_pylist()]
