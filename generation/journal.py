"""The journal of a run: which images are finished, readable after a kill at any moment."""

import os
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.files import sha256_bytes, sha256_file, temporary_beside, write_atomic
from evalkit.manifest import Cell, Image

FILE_NAME = "journal.jsonl"


class Journal:
    """Appends one line per image, before the image gets its final name.

    So a file that is there with the sha256 of its line is finished, and anything else is drawn again: a kill costs the batch
    it interrupts and leaves no broken image.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.path = run / FILE_NAME
        self.images: dict[Cell, Image] = {}
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            try:
                image = Image.model_validate_json(line)
            except ValidationError:
                continue  # cut short by a kill: its image is drawn again
            path = self.run / image.path
            if path.is_file() and sha256_file(path) == image.sha256:
                self.images[image.cell] = image
        write_atomic(self.path, "".join(image.model_dump_json() + "\n" for image in self.images.values()))

    def add(self, image: Image, png: bytes) -> None:
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
