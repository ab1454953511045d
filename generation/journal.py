"""The journal of a run: which images are finished, readable after a kill at any moment."""

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes, sha256_file, temporary_beside, write_atomic
from evalkit.run.image_records import Cell, ImageRecord

FILE_NAME = "journal.jsonl"


class Journal:
    """Appends one line per image, before the image gets its final name.

    So a file that is there with the sha256 of its line is finished, and anything else is drawn again: a kill costs the batch
    it interrupts and leaves no broken image. A shard writes its own journal and reads all of them.
    """

    def __init__(self, run: Path, shard: str = "") -> None:
        self.run = run
        self.path = run / (f"journal.{shard}.jsonl" if shard else FILE_NAME)
        found = {path: list(_lines(path)) for path in _journals(run)}
        self.images: dict[Cell, ImageRecord] = {
            image.cell: image
            for images in found.values()
            for image in images
            if (run / image.path).is_file() and sha256_file(run / image.path) == image.sha256
        }
        if self.path in found:
            kept = [image for image in found[self.path] if self.images.get(image.cell) == image]
            write_atomic(self.path, "".join(image.model_dump_json() + "\n" for image in kept))

    def catch_up(self) -> None:
        """Take in what other shards have finished meanwhile; an image has its name only when it is whole."""
        for path in _journals(self.run):
            for image in _lines(path) if path != self.path else ():
                if image.cell not in self.images and (self.run / image.path).is_file():
                    self.images[image.cell] = image

    def add(self, image: ImageRecord, png: bytes) -> None:
        """Write an image's bytes to its place and remember that it is finished.

        Raises:
            UserError: the disk is full or the folder can't be written; the image is then absent, not half there.
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
                raise UserError(f"{self.path}: can't be written: {error.strerror or error}; run the command again") from error
        self.images[image.cell] = image


def _journals(run: Path) -> list[Path]:
    return sorted(run.glob("journal*.jsonl"))


def _lines(path: Path) -> Iterator[ImageRecord]:
    """Yield the images of a journal's whole lines; a line cut short by a kill is none: its image is drawn again."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield ImageRecord.model_validate_json(line)
        except ValidationError:
            continue
