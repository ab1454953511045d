"""Scores of a run shared by several processes: each writes its own part, and each that ends merges all parts."""

import re
from collections.abc import Iterator, Sequence
from heapq import merge
from pathlib import Path

from evalkit.errors import UserError
from evalkit.metric_spec.signature import EXTERNAL_MARK
from evalkit.run.feature_cache import FILE_NAME as CACHE
from evalkit.run.image_records import ImageRecords
from evalkit.run.manifest import Case, Manifest
from evalkit.run.score_table import FILE_NAME, ParquetRows, RunScore, stored_scores, write_scores
from evalkit.run.shard import Shard

PART = re.compile(r"scores\.(\d+)-of-(\d+)\.parquet")


def part_of(manifest: Manifest, cases: Sequence[Case]) -> Manifest:
    """Return the manifest of these cases alone."""
    names = {case.id for case in cases}
    images = ImageRecords(image for image in manifest.images if image.case in names)
    return manifest.model_copy(update={"cases": tuple(cases), "images": images})


def score_file(run: Path, shard: Shard | None) -> Path:
    """Return where the scores of a run, or of a shard of it, are written."""
    return run / (f"scores.{shard}.parquet" if shard else FILE_NAME)


def cache_file(run: Path, shard: Shard | None) -> Path:
    """Return the path of the feature cache: each shard has its own file, since machines can't share one of SQLite."""
    return run / (CACHE.replace(".sqlite", f".{shard}.sqlite") if shard else CACHE)


def shard_caches(run: Path) -> list[Path]:
    """Return the features that shards keep."""
    own = run / CACHE
    return sorted(own.parent.glob(f"{own.stem}.*-of-*{own.suffix}"))


def score_parts(run: Path) -> list[Path]:
    """Return the score files of shards."""
    return sorted(path for path in run.glob("scores.*-of-*.parquet") if PART.fullmatch(path.name))


def check_sharing(run: Path, shard: Shard) -> None:
    """Raise a UserError if the run is shared out in another number of parts."""
    for path in score_parts(run):
        match = PART.fullmatch(path.name)
        if match and int(match[2]) != shard.count:
            raise UserError(
                f"{path}: is one of {match[2]} parts, not of {shard.count}; gather those first with `evalkit score {run}`"
            )


def merge_shards(run: Path, manifest: Manifest) -> int:
    """Write the run's score file from all parts that are there, and return how many they are.

    Of shards that end together, the last to write knows all. Rows are in the order of one process: earlier scores of other
    metrics, then metric by metric, case by case.
    """
    while True:
        state = _state(run)
        write_scores(run, _all_rows(run, manifest, [path for path, *_ in state]))
        if _state(run) == state:
            return len(state)


def _state(run: Path) -> list[tuple[Path, int, int]]:
    """Return the parts in their present state."""
    return [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in score_parts(run)]


def _all_rows(run: Path, manifest: Manifest, paths: Sequence[Path]) -> Iterator[RunScore]:
    """Yield the rows of the run's score file of metrics that no part has and those of other tools, then those of the parts."""
    parts = [ParquetRows(path, RunScore) for path in paths]
    metrics = {
        name: position
        for position, name in enumerate(dict.fromkeys(name for part in parts for name in part.distinct("metric")))
    }
    cases = {case.id: position for position, case in enumerate(manifest.cases)}
    if (run / FILE_NAME).exists():
        yield from (row for row in stored_scores(run) if row.metric not in metrics or row.signature.startswith(EXTERNAL_MARK))
    yield from merge(*parts, key=lambda row: (metrics[row.metric], cases[row.case]))
