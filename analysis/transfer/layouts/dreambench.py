"""DreamBench++: one JSON file per annotator group and method, `GROUP/PART-METHOD.json`, entries `[cp, pf]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, json_value, read_text
from analysis.transfer.vote_layout import Items, VoteLayout, item_cells
from evalkit.errors import UserError


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    rows = []
    for file in files:
        content = json_value(file, read_text(file))
        if not isinstance(content, Mapping):
            raise UserError(f"{file}: is not an object of ratings by image; give files of human_rating/GROUP/PART-METHOD.json")
        arm = file.stem.partition("-")[2] or file.stem
        for key, rating in content.items():
            row = SourceRow(f"{file.parent.name}/{file.name} {key!r}", {})
            about = item_cells(key, items) if items else {"case": key, "seed": "0"}
            cells = about | {"participant": file.parent.name, "arm": arm}
            rows += [row.with_cells(cells | {"question": name, "rating": value}) for name, value in _ratings(rating)]
    return rows


def _ratings(rating: object) -> list[tuple[str, object]]:
    """Return concept preservation, prompt following, and `overall`: their product, as the benchmark ranks methods."""
    if isinstance(rating, list) and len(rating) == 2 and all(isinstance(value, int | float) for value in rating):
        return [("overall", rating[0] * rating[1]), ("concept_preservation", rating[0]), ("prompt_following", rating[1])]
    return [("overall", rating)]


dreambench = VoteLayout(
    "dreambench", "human ratings of github.com/yuangpeng/dreambench_plus (Peng et al. 2025, arXiv 2406.16855)", _read
)
