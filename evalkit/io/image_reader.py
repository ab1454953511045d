"""Image decoding: files to 8-bit sRGB, upright, with a note of every conversion."""

import hashlib
import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from evalkit.errors import UserError, first_line
from evalkit.io.colour_profile import to_srgb
from evalkit.io.libtiff_messages import silence_libtiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Part of every recipe: raise it when a change here changes pixels. 2: colour profiles are converted to sRGB.
VERSION = 2
# Pillow's own limit against decompression bombs; 13,000 x 13,000 is below it.
LARGEST = 178_956_970
ORIENTATION = 0x0112
# Needs no conversion and no note.
PLAIN_MODES = ("RGB",)
CONVERTED = {
    "L": "greyscale, copied into three channels",
    "1": "black and white, copied into three channels",
    "P": "palette, turned into RGB",
    "CMYK": "CMYK, converted to RGB without a colour profile",
    "YCbCr": "YCbCr, turned into RGB",
}
# `warnings.catch_warnings` is not safe between threads; reading headers and metadata takes little, so waiting costs nothing.
_METADATA = threading.Lock()


@dataclass(frozen=True)
class Pixels:
    """An upright image in mode RGB, 8 bits a channel, sRGB, and a note of each conversion."""

    image: Image.Image
    notes: tuple[str, ...] = ()

    def array(self) -> "NDArray[np.uint8]":
        """Return the pixels as H x W x 3, 0 to 255."""
        return np.asarray(self.image)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Read metadata without Pillow's warnings: bombs are measured here, and damaged EXIF data leaves the pixels as they are."""
    with _METADATA, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(data: bytes, name: str) -> Pixels:
    """Return the image in `data`; `name` is its name in errors.

    Raises:
        UserError: not an image, truncated or damaged, larger than 178,956,970 pixels, or without an agreed range of values.
    """
    try:
        with _without_warnings():
            opened = Image.open(io.BytesIO(data))
            frames = getattr(opened, "n_frames", 1)
        if opened.width * opened.height > LARGEST:
            raise UserError(f"{name}: {opened.width} x {opened.height} pixels are too many; at most {LARGEST:,} are read")
        if opened.format == "TIFF":
            silence_libtiff()
        deep_colour = _deep_colour(opened)
        opened.load()
    except Image.DecompressionBombError:
        raise UserError(f"{name}: has too many pixels; at most {LARGEST:,} are read") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: is not an image that Pillow reads; save it as PNG, JPEG or WebP") from None
    except UserError:
        raise
    except Exception as error:
        # Pillow's decoders raise many exceptions on damaged files: struct.error, IndexError, AssertionError, ...
        raise UserError(f"{name}: is truncated or damaged ({first_line(error)}); export it again") from error
    try:
        upright = convert(opened, name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name}: can't be converted to RGB ({first_line(error)}); save it as RGB") from error
    notes = list(upright.notes)
    if deep_colour:
        notes.append("16-bit colour, reduced to 8 bits")
    if frames > 1:
        notes.append(f"{frames} frames, of which the first was taken")
    return Pixels(upright.image, tuple(notes))


def convert(image: Image.Image, name: str) -> Pixels:
    """Return an image turned upright, in 8-bit sRGB, transparency on white.

    Raises:
        UserError: 32-bit integers or floats, whose range is not defined.
    """
    notes = []
    with _without_warnings():
        orientation = image.getexif().get(ORIENTATION, 1)
        if orientation in range(2, 9):
            image = ImageOps.exif_transpose(image)
    if orientation in range(2, 9):
        notes.append(f"turned upright by its EXIF orientation {orientation}")
    if image.mode.startswith("I;16"):
        # 65535 / 257 = 255: the full range of 16 bits is the full range of 8
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
        notes.append("16-bit greyscale, divided by 257, copied into three channels")
        return Pixels(image.convert("RGB"), tuple(notes))
    if image.mode in ("I", "F"):
        raise UserError(f"{name}: holds 32-bit numbers (mode {image.mode}), whose range is unknown; save it with 8 or 16 bits")
    image, profile_note = to_srgb(image)
    notes += [profile_note] if profile_note else []
    try:
        if image.has_transparency_data:
            image, note = _on_white(image.convert("RGBA"))
            notes.append(note)
        elif image.mode not in PLAIN_MODES:
            notes.append(CONVERTED.get(image.mode, f"mode {image.mode}, turned into RGB"))
        rgb = image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise UserError(f"{name}: mode {image.mode} can't be turned into RGB: {error}; save it as RGB") from error
    return Pixels(rgb, tuple(notes))


def _on_white(image: Image.Image) -> tuple[Image.Image, str]:
    """Return an RGBA image laid on white, and what to say of it."""
    if image.getchannel("A").getextrema() == (255, 255):
        return image, "alpha channel without effect, dropped"
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image), "transparent, laid on white"


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise a UserError that names the file if it is unreadable or not a regular file."""
    try:
        # a named pipe or a device would block, or never end
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is {'a folder' if path.is_dir() else 'not a regular file'}; give an image file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        # a path with a null byte is a ValueError
        raise UserError(
            f"{path}: can't be read: {getattr(error, 'strerror', None) or error}; make it again, or remove it"
        ) from error


def load(path: Path) -> Pixels:
    """Return the image in a file."""
    return decode(read_bytes(path), str(path))


def fingerprint(image: Image.Image) -> str:
    """Return the sha256 of an image in memory: its mode, size, palette, orientation and pixels, as 64 hex digits."""
    palette = image.getpalette() if image.mode == "P" else None
    head = f"{image.mode} {image.size} {palette} {image.getexif().get(ORIENTATION, 1)} {image.info.get('transparency')!r}"
    profile = image.info.get("icc_profile") or b""
    return hashlib.sha256(head.encode() + profile + image.tobytes()).hexdigest()


def _deep_colour(image: Image.Image) -> bool:
    """Return whether a colour image has 16 bits a channel, which Pillow reduces to 8 while it decodes."""
    tiles = getattr(image, "tile", None) or []
    return image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in tiles)
