"""Journal of a run: its finished images, readable after an interruption at any moment."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, sha256_file, temporary_beside, write_atomic
from evalkit.run.image_records import Cell, ImageRecord

FILE_NAME = "journal.jsonl"


class Journal:
    """An append-only file with one line per image, written before the image gets its final name.

    An image is finished if its file has the sha256 of its line; anything else is generated again. An interruption costs the
    current batch and leaves no broken image. A shard writes its own journal and reads all.
    """

    def __init__(self, run: Path, shard: str = "") -> None:
        self.run = run
        self.path = run / (f"journal.{shard}.jsonl" if shard else FILE_NAME)
        recorded = {path: list(_lines(path)) for path in _journals(run)}
        self.images: dict[Cell, ImageRecord] = {
            image.cell: image
            for images in recorded.values()
            for image in images
            if (run / image.path).is_file() and sha256_file(run / image.path) == image.sha256
        }
        if self.path in recorded:
            finished = [image for image in recorded[self.path] if self.images.get(image.cell) == image]
            write_atomic(self.path, "".join(image.model_dump_json() + "\n" for image in finished))

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
        self.images[image.cell] = image


def _journals(run: Path) -> list[Path]:
    return sorted(run.glob("journal*.jsonl"))


def _lines(path: Path) -> Iterator[ImageRecord]:
    """Yield the images of a journal's complete lines; the image of a truncated line is generated again."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield ImageRecord.model_validate_json(line)
        except ValidationError:
            continue
