"""Tidy files, as `evalkit export` and `evalkit study export` write them."""

from collections.abc import Sequence
from pathlib import Path

from analysis.transfer.source_rows import SourceRow, read_rows
from analysis.transfer.vote_layout import Items, VoteLayout


def _read(files: Sequence[Path], items: Items) -> list[SourceRow]:
    return [row for file in files for row in read_rows(file, named=len(files) > 1)]


tidy = VoteLayout("tidy", "canonical columns, as `evalkit export` writes them", _read)
