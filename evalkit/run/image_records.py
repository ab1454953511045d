"""The images of a run: each a record, and all of them packed, for a run may have very many."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from evalkit.run.file_record import Name, Record, Seed, Sha256

Cell = tuple[str, str, int]


class ImageFile(Record):
    """One image file: its path relative to the run folder (with /), the sha256 of its bytes, its size in pixels."""

    path: str
    sha256: Sha256
    width: int = Field(ge=1, lt=2**31)
    height: int = Field(ge=1, lt=2**31)


class ImageRecord(ImageFile):
    """The image of a case x arm x seed."""

    case: Name
    arm: Name
    seed: Seed
    # sha256 of the initial noise (float32, C order); None for images made elsewhere
    latents_sha256: Sha256 | None = None

    @property
    def cell(self) -> Cell:
        """Return what names the image: case, arm, seed."""
        return (self.case, self.arm, self.seed)


class ImageRecords(Sequence[ImageRecord]):
    """ImageRecords packed into some 100 bytes each and rebuilt on access; read-only."""

    # case, arm and path as numbers of texts; seed, width, height; sha256 of file and latents, and whether there is the latter
    FORM = struct.Struct("<3i q 2i 32s 32s ?")

    def __init__(self, images: Iterable[ImageRecord] = ()) -> None:
        """Pack images."""
        self._rows = bytearray()
        numbers: dict[str, int] = {}
        for image in images:
            stem = _stem(*image.cell)
            # nearly all paths follow from their cell
            path = f"\0{image.path[len(stem) :]}" if image.path.startswith(stem) else image.path
            texts = (numbers.setdefault(text, len(numbers)) for text in (image.case, image.arm, path))
            hashes = (bytes.fromhex(image.sha256), bytes.fromhex(image.latents_sha256 or ""))
            has_latents = image.latents_sha256 is not None
            self._rows += self.FORM.pack(*texts, image.seed, image.width, image.height, *hashes, has_latents)
        self._texts = list(numbers)

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._rows) // self.FORM.size

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageRecords": ...
    def __getitem__(self, index: int | slice) -> "ImageRecord | ImageRecords":
        """Return an image, or some of them."""
        if isinstance(index, slice):
            return ImageRecords(self[position] for position in range(*index.indices(len(self))))
        row = self.FORM.unpack_from(self._rows, range(len(self))[index] * self.FORM.size)
        case, arm, path = (self._texts[number] for number in row[:3])
        seed, width, height, sha256, latents, has_latents = row[3:]
        return ImageRecord.model_construct(
            path=f"{_stem(case, arm, seed)}{path[1:]}" if path.startswith("\0") else path,
            sha256=sha256.hex(),
            width=width,
            height=height,
            case=case,
            arm=arm,
            seed=seed,
            latents_sha256=latents.hex() if has_latents else None,
        )

    def __eq__(self, other: object) -> bool:
        """Return whether the other holds the same images in the same order."""
        if not isinstance(other, ImageRecords):
            return isinstance(other, tuple) and tuple(self) == other
        return (self._rows, self._texts) == (other._rows, other._texts)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return how images are read, from any sequence of images, and written: to JSON one by one."""
        every, one = handler.generate_schema(tuple[ImageRecord, ...]), handler.generate_schema(ImageRecord)

        def packed(
            give: type[tuple[ImageRecord, ...]] | Callable[["ImageRecords"], Iterator[ImageRecord]], given: CoreSchema
        ) -> CoreSchema:
            return core_schema.no_info_wrap_validator_function(
                lambda value, validated: value if isinstance(value, cls) else cls(validated(value)),
                every,
                serialization=core_schema.plain_serializer_function_ser_schema(give, return_schema=given),
            )

        return core_schema.json_or_python_schema(packed(iter, core_schema.generator_schema(one)), packed(tuple, every))


def image_path(case: str, arm: str, seed: int) -> str:
    """Return the path of a cell's image, relative to its run folder."""
    return f"{_stem(case, arm, seed)}.png"


def _stem(case: str, arm: str, seed: int) -> str:
    return f"images/{case}/{arm}/{seed}"
