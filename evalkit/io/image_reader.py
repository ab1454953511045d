"""The one place where a file becomes pixels: 8-bit RGB, upright, with a note of everything that was done to get there."""

import hashlib
import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from evalkit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Counts as part of every recipe: raise it when a change here changes pixels.
VERSION = 1
# Where Pillow itself takes a picture for a decompression bomb; 13,000 x 13,000 still gets through.
LARGEST = 178_956_970
ORIENTATION = 0x0112
# A converted picture is the same in all of these, so nothing needs saying.
PLAIN_MODES = ("RGB",)
CONVERTED = {
    "L": "greyscale, copied into three channels",
    "1": "black and white, copied into three channels",
    "P": "palette, turned into RGB",
    "CMYK": "CMYK, turned into RGB without a colour profile",
    "YCbCr": "YCbCr, turned into RGB",
}
# `warnings.catch_warnings` is not safe between threads; opening reads the header alone, so waiting costs nothing.
_OPENING = threading.Lock()


@dataclass(frozen=True)
class Pixels:
    """An upright picture in mode RGB, 8 bits a channel, and what was done to make it so."""

    image: Image.Image
    notes: tuple[str, ...] = ()

    def array(self) -> "NDArray[np.uint8]":
        """Return the pixels as H x W x 3, 0 to 255."""
        return np.asarray(self.image)


def decode(data: bytes, name: str) -> Pixels:
    """Return the picture that `data` holds; `name` is how errors call it.

    Raises:
        UserError: no picture, cut off, larger than 178,956,970 pixels, or of a kind without an agreed range of values.
    """
    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data))
        if opened.width * opened.height > LARGEST:
            raise UserError(f"{name}: {opened.width} x {opened.height} pixels are too many; at most {LARGEST:,} are read")
        deep_colour = _deep_colour(opened)
        frames = getattr(opened, "n_frames", 1)
        opened.load()
    except Image.DecompressionBombError:
        raise UserError(f"{name}: has too many pixels; at most {LARGEST:,} are read") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: is no picture, or of a kind Pillow can't read; save it as PNG, JPEG or WebP") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name}: can't be decoded, it is cut off or damaged: {error}") from error
    upright = convert(opened, name)
    notes = list(upright.notes)
    if deep_colour:
        notes.append("16-bit colour, reduced to 8 bits")
    if frames > 1:
        notes.append(f"{frames} frames, of which the first was taken")
    return Pixels(upright.image, tuple(notes))


def convert(image: Image.Image, name: str) -> Pixels:
    """Return a picture turned upright and into 8-bit RGB; transparency is laid on white.

    Raises:
        UserError: 32-bit integers or floats, whose range nobody has agreed on.
    """
    notes = []
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
        notes.append(f"turned upright, as its EXIF orientation {orientation} says")
    if image.mode.startswith("I;16"):
        # 65535 / 257 = 255: the full range of 16 bits is the full range of 8
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
        notes.append("16-bit greyscale, divided by 257, copied into three channels")
        return Pixels(image.convert("RGB"), tuple(notes))
    if image.mode in ("I", "F"):
        raise UserError(f"{name}: holds 32-bit numbers (mode {image.mode}), whose range is unknown; save it with 8 or 16 bits")
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
    """Return an RGBA picture laid on white, and what to say of it."""
    if image.getchannel("A").getextrema() == (255, 255):
        return image, "alpha channel without effect, dropped"
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image), "transparent, laid on white"


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise a UserError that names the file where it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}") from error


def load(path: Path) -> Pixels:
    """Return the picture in a file."""
    return decode(read_bytes(path), str(path))


def fingerprint(image: Image.Image) -> str:
    """Return the sha256 of a picture in memory: its mode, size, palette, orientation and pixels, as 64 hex digits."""
    palette = image.getpalette() if image.mode == "P" else None
    head = f"{image.mode} {image.size} {palette} {image.getexif().get(ORIENTATION, 1)} {image.info.get('transparency')!r}"
    return hashlib.sha256(head.encode() + image.tobytes()).hexdigest()


def _deep_colour(image: Image.Image) -> bool:
    """Tell whether a colour picture has 16 bits a channel, which Pillow reduces to 8 while it decodes."""
    tiles = getattr(image, "tile", None) or []
    return image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in tiles)
