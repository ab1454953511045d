"""ImagenHub: one table of ratings per rater, a column per method, cells `[semantic consistency, perceptual quality]`."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows, require_columns
from analysis.transfer.vote_layout import Items, VoteLayout, item_cells


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    rows = []
    for file in files:
        source = read_rows(file, named=True)
        require_columns(str(file), source, ("uid",), "give the tables of eval/human_ratings, one file per rater")
        for row in source:
            item = row.text("uid")
            about = item_cells(item, items) if items else {"case": Path(item).stem, "seed": "0"}
            for arm in [name for name in row.cells if name != "uid"]:
                cells = about | {"participant": file.stem, "arm": arm}
                for question, rating in _ratings(row.text(arm)):
                    rows.append(row.with_cells(cells | {"question": question, "rating": rating}, f", column {arm!r}"))
    return rows


def _ratings(cell: str) -> list[tuple[str, object]]:
    """Return the ratings of a cell; `overall` is the geometric mean of both, as the benchmark defines it."""
    try:
        consistency, quality = (float(value) for value in json.loads(cell))
    except (ValueError, TypeError):
        return [("overall", cell)]
    overall = math.sqrt(consistency * quality)
    return [("overall", overall), ("semantic_consistency", consistency), ("perceptual_quality", quality)]


imagenhub = VoteLayout(
    "imagenhub", "eval/human_ratings of github.com/TIGER-AI-Lab/ImagenHub (Ku et al. 2024, arXiv 2310.01596)", _read
)
