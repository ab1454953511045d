"""The scores of images outside a run: a list of rows with what failed, and tables of it."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.plural import plural
from evalkit.run.score_table import ImageScore
from evalkit.scoring.image_requests import ExtractionCounts, ScoringProblem

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class ImageScores(list[ImageScore]):
    """Rows in the order of images, metrics and concepts.

    `indices` holds the position of each row's image among the images given, `problems` what could not be scored and why,
    `notes` the conversions of images.
    """

    def __init__(self, problems: Iterable[ScoringProblem] = (), notes: Iterable[str] = ()) -> None:
        """Start without rows."""
        super().__init__()
        self.indices: list[int] = []
        self.problems = list(problems)
        self.notes = list(notes)
        # decoded images and forward passes
        self.counts = ExtractionCounts()

    def add(self, index: int, row: ImageScore) -> None:
        """Append the row of the image at `index`."""
        self.append(row)
        self.indices.append(index)

    def columns(self) -> dict[str, list[Any]]:
        """Return the rows as columns by name, with the image's index first."""
        rows = [asdict(row) for row in self]
        return {"index": list(self.indices), **{field.name: [row[field.name] for row in rows] for field in fields(ImageScore)}}

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def to_arrow(self) -> "pa.Table":
        """Return the rows as an Arrow table."""
        import pyarrow as pa

        return pa.table(self.columns())


class ImageScoringError(UserError):
    """Some images could not be scored; `scores` holds the rows of all others, and the problems."""

    def __init__(self, scores: ImageScores) -> None:
        """Name the first problem, and how many there are."""
        reasons = list(dict.fromkeys(problem.reason for problem in scores.problems))
        others = plural(len(reasons) - 1, "more problem")
        more = f" (and {others}; on_error='skip' returns the other scores)" if len(reasons) > 1 else ""
        super().__init__(f"{reasons[0]}{more}")
        self.scores = scores
