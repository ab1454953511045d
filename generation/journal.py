"""Journal of a run: its finished images, readable after an interruption at any moment."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, sha256_file, temporary_beside, write_atomic
from evalkit.run.image_records import Cell, ImageRecord

FILE_NAME = "journal.jsonl"
# size, times and inode of files whose sha256 is known
STATES = "verified.tsv"


class Journal:
    """An append-only file with one line per image, written before the image gets its final name.

    An image is finished if its file has the sha256 of its line; anything else is generated again. An interruption costs the
    current batch and leaves no broken image. A shard writes its own journal and reads all; it verifies its own images alone. A
    file that was verified or written is not read again while its size, times and inode are the same.
    """

    def __init__(self, run: Path, shard: str = "", own: Callable[[Cell], bool] = lambda cell: True) -> None:
        self.run = run
        self.path = run / (f"journal.{shard}.jsonl" if shard else FILE_NAME)
        self.states = run / (f"verified.{shard}.tsv" if shard else STATES)
        recorded = {path: list(_lines(path)) for path in _journals(run)}
        self._verified = {state for path in sorted(run.glob("verified*.tsv")) for state in _states(path)}
        self.images: dict[Cell, ImageRecord] = {
            image.cell: image
            for images in recorded.values()
            for image in images
            if (run / image.path).is_file() and (not own(image.cell) or self._is_whole(image))
        }
        if self.path in recorded:
            finished = [image for image in recorded[self.path] if self.images.get(image.cell) == image]
            write_atomic(self.path, "".join(image.model_dump_json() + "\n" for image in finished))

    def _is_whole(self, image: ImageRecord) -> bool:
        """Return whether an image's file has its sha256; it is read unless it is as it was when that was last known."""
        if _state(self.run, image) in self._verified:
            return True
        if sha256_file(self.run / image.path) != image.sha256:
            return False
        self._remember(image)
        return True

    def _remember(self, image: ImageRecord) -> None:
        """Note the state of a file whose sha256 is known; where that can't be written, the file is read again next time."""
        state = _state(self.run, image)
        if state is not None:
            with suppress(OSError), self.states.open("a", encoding="utf-8") as stream:
                stream.write(f"{state}\n")

    def catch_up(self) -> None:
        """Add the images that other shards have finished since; an image has its name only when it is complete."""
        for path in _journals(self.run):
            for image in _lines(path) if path != self.path else ():
                if image.cell not in self.images and (self.run / image.path).is_file():
                    self.images[image.cell] = image

    def add(self, image: ImageRecord, png: bytes) -> None:
        """Write an image's bytes to its path and record that it is finished.

        Raises:
            UserError: the disk is full or the folder is not writable; no part of the image is left.
        """
        if image.sha256 != sha256_bytes(png):
            raise ValueError(f"{image.path}: the sha256 is not that of the bytes")
        with temporary_beside(self.run / image.path) as temporary:
            temporary.write_bytes(png)
            try:
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(image.model_dump_json() + "\n")
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError as error:
                raise UserError(
                    f"{self.path}: writing failed ({error.strerror or error}); free the disk and run the command again"
                ) from error
        self._remember(image)
        self.images[image.cell] = image


def _journals(run: Path) -> list[Path]:
    return sorted(run.glob("journal*.jsonl"))


def _state(run: Path, image: ImageRecord) -> str | None:
    """Return what names a file in its present state with its sha256; None if the clock is too coarse to see a second change."""
    found = (run / image.path).stat()
    if found.st_mtime_ns % 1_000_000_000 == 0:
        return None
    return f"{image.path}\t{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\t{image.sha256}"


def _states(path: Path) -> Iterator[str]:
    """Yield the complete lines of a file of states."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if line.endswith("\n"):
            yield line.rstrip("\n")


def _lines(path: Path) -> Iterator[ImageRecord]:
    """Yield the images of a journal's complete lines; the image of a truncated line is generated again."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield ImageRecord.model_validate_json(line)
        except ValidationError:
            continue
