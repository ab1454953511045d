"""Scores that another tool computed, checked against a run and added to its score file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

from analysis.transfer.source_rows import Mistakes, SourceRow, read_rows, require_columns
from db.run_loader import NO_IMAGE
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.metric_spec.signature import EXTERNAL_MARK
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import FILE_NAME, Direction, RunScore, read_scores, write_scores

REQUIRED = ("metric", "direction", "case", "seed", "arm", "value")
OPTIONAL = ("signature", "concept", "other_arm")


def read_external_scores(file: Path, manifest: Manifest, columns: Mapping[str, str] | None = None) -> list[RunScore]:
    """Return the scores of a file, signed as external.

    Columns: metric, direction (`higher`, `lower` or `none`), case, seed, arm, value; optional signature, concept and
    other_arm. The signature begins with `external:`, so that such scores never share a column with those of evalkit.

    Raises:
        UserError: lists the first 20 mistakes by row and column.
    """
    rows = read_rows(file)
    if not rows:
        raise UserError(f"{file}: has no scores; give a file with one row per score")
    names = {name: (columns or {}).get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    require_columns(str(file), rows, [names[name] for name in REQUIRED], "map other names by --columns NAME=COLUMN")
    mistakes = Mistakes(str(file), "scores do not fit the run")
    reader = _ScoreReader(manifest, names, sha256_file(file), mistakes)
    scores = [score for row in rows if (score := reader.score(row)) is not None]
    mistakes.raise_any()
    return scores


def add_scores(run: Path, scores: Sequence[RunScore]) -> int:
    """Add scores to the run's score file and return how many rows of the same metrics and signatures they replace."""
    earlier = read_scores(run) if (run / FILE_NAME).exists() else []
    replaced = {(score.metric, score.signature) for score in scores}
    others = [score for score in earlier if (score.metric, score.signature) not in replaced]
    write_scores(run, (*others, *scores))
    return len(earlier) - len(others)


class _ScoreReader:
    def __init__(self, manifest: Manifest, names: Mapping[str, str], sha256: str, mistakes: Mistakes) -> None:
        self.names, self.sha256, self.mistakes = names, sha256, mistakes
        self.images = {image.cell: image.sha256 for image in manifest.images}
        if manifest.source == "votes":
            self.images = dict.fromkeys(manifest.expected(), NO_IMAGE)
        self.concepts = {concept.name for concept in manifest.concepts}
        self.directions: dict[str, tuple[str, str]] = {}
        self.seen: dict[tuple[object, ...], str] = {}

    def score(self, row: SourceRow) -> RunScore | None:
        """Return a row's score, or None after noting its mistakes."""
        before = len(self.mistakes.lines)
        text = {name: row.text(column) for name, column in self.names.items()}
        for name in REQUIRED:
            if not text[name]:
                self._wrong(row, name, "is empty")
        value, seed = self._number(row, "value", text["value"]), self._number(row, "seed", text["seed"])
        if len(self.mistakes.lines) > before or value is None or seed is None:
            return None
        cell = (text["case"], text["arm"], int(seed))
        if cell not in self.images:
            self._wrong(row, "arm", f"the run has no image of case {cell[0]!r}, arm {cell[1]!r}, seed {cell[2]}")
        if text["other_arm"] and (cell[0], text["other_arm"], cell[2]) not in self.images:
            self._wrong(row, "other_arm", f"the run has no image of arm {text['other_arm']!r} here")
        if text["concept"] and text["concept"] not in self.concepts:
            self._wrong(row, "concept", f"{text['concept']!r} is not a concept of the run")
        if text["direction"] not in get_args(Direction):
            self._wrong(row, "direction", f"{text['direction']!r} is none of {', '.join(get_args(Direction))}")
        direction = self.directions.setdefault(text["metric"], (text["direction"], row.place))
        if direction[0] != text["direction"]:
            self._wrong(row, "direction", f"is {text['direction']!r}, but {direction[0]!r} in {direction[1]}")
        key = (text["metric"], text["signature"], cell, text["concept"], text["other_arm"])
        if key in self.seen:
            self._wrong(row, "", f"the second {text['metric']} of this image, first in {self.seen[key]}")
        self.seen.setdefault(key, row.place)
        if len(self.mistakes.lines) > before:
            return None
        return RunScore(
            cell[0], cell[1], cell[2], self.images[cell], text["metric"], text["concept"], text["other_arm"], value,
            cast("Direction", text["direction"]), self._signature(text),
        )  # fmt: skip

    def _signature(self, text: Mapping[str, str]) -> str:
        given = text["signature"].removeprefix(EXTERNAL_MARK)
        return EXTERNAL_MARK + (given or f"{text['metric']}|recipe not stated|file sha:{self.sha256[:8]}")

    def _number(self, row: SourceRow, name: str, text: str) -> float | None:
        try:
            value = float(text)
            if math.isfinite(value) and (name == "value" or value.is_integer()):
                return value if name == "value" else int(text) if text.isdigit() else value
        except ValueError:
            pass
        if text:
            self._wrong(row, name, f"{text!r} is not a {'finite' if name == 'value' else 'whole'} number")
        return None

    def _wrong(self, row: SourceRow, name: str, wrong: str) -> None:
        self.mistakes.add(row, self.names.get(name, name), wrong)
