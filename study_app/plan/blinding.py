"""Image blinding: one encoder, no metadata, opaque names, one URL per assignment, equal sizes in bytes.

A participant's browser never gets the run's file. Every image is decoded once, at `study init`, and re-encoded with the same
settings, so that encoder, metadata and colour type are the same for all. Its file is named after an HMAC with a secret of this
study. On its way out it is padded, inside a PNG chunk that viewers skip, to the size of the study's largest image; the padding
differs from URL to URL. So neither name, URL, content hash nor number of bytes links an image to an arm or to its other
appearances. References are treated alike, as a separate group, and large ones are reduced.
"""

import hashlib
import hmac
import io
import os
import secrets
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

from PIL import Image as PILImage
from PIL import ImageOps

from evalkit.errors import UserError
from evalkit.io import image_reader as pixels
from evalkit.io.atomic_files import sha256_bytes, write_atomic
from evalkit.run.image_records import ImageFile
from evalkit.run.manifest import Manifest

FOLDER = "study"
# a probe is a reference that is judged (attention checks, practice), made to look like an image of the study
Kind = Literal["image", "reference", "probe"]
# References are shown small; a photograph of 20 megapixels would only keep people waiting.
REFERENCE_SIDE = 768
# lower case first letter: viewers may skip it; second: private; fourth: copying is safe (PNG specification 3rd ed., 5.4)
PADDING_CHUNK = b"paDd"
_CHUNK_FRAME = 12
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
# Even the largest image gets some, so that its bytes differ from URL to URL too.
_SMALLEST_PADDING = 32
_LEVEL = 6


class Blinding:
    """The secret of a study and all that is derived from it; `run` is the run folder."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._folder = run / FOLDER
        self._secret = read_secret(self._folder / "secret")
        self._largest: dict[Kind, int] = {}

    def path(self, kind: Kind, sha256: str) -> Path:
        """Return the path of the stimulus made from the file with this sha256."""
        return self._group(kind) / f"{self._mac('stimulus', kind, sha256)}.png"

    def token(self, owner: str, slot: str) -> str:
        """Return the URL token of one slot (left, right, ...) of one assignment."""
        return self._mac("url", owner, slot)

    def cookie_name(self) -> str:
        """Return the name of this study's cookie, so that studies on one host don't share theirs."""
        return f"study_{self._mac('cookie')[:8]}"

    def signature(self, text: str) -> str:
        """Return the HMAC of a text under the study's secret."""
        return self._mac("signature", text)

    def serve(self, kind: Kind, sha256: str, token: str) -> bytes:
        """Return the bytes to send for a URL: the stimulus, padded to the size all of its kind have on their way out."""
        data = pixels.read_bytes(self.path(kind, sha256))
        noise = hashlib.shake_256(f"padding {self._secret.hex()} {token}".encode())
        return pad(data, self._outgoing_size(kind), noise.digest)

    def _outgoing_size(self, kind: Kind) -> int:
        if kind not in self._largest:
            self._largest[kind] = max(file.stat().st_size for file in self._group(kind).glob("*.png"))
        return self._largest[kind] + _CHUNK_FRAME + _SMALLEST_PADDING

    def _group(self, kind: Kind) -> Path:
        return self._folder / ("references" if kind == "reference" else "stimuli")

    def _mac(self, *parts: str) -> str:
        return hmac.new(self._secret, "|".join(parts).encode(), hashlib.sha256).hexdigest()[:32]


def read_secret(path: Path) -> bytes:
    """Return the study's secret, made on first use and readable by its owner alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # whole before it has its name, and only the first of two processes gives it that name
        part = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
        if not path.exists():
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(32))
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(part, path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
        secret = bytes.fromhex(path.read_text().strip())
    except ValueError:
        secret = b""
    except OSError as error:
        raise UserError(
            f"{path}: can't be read or made: {error.strerror or error}; run it as the user who owns the run folder"
        ) from error
    if len(secret) != 32:
        raise UserError(f"{path}: is damaged; if no one has joined yet, remove it and run `evalkit study init` again")
    return secret


def pictures(manifest: Manifest) -> Iterable[tuple[Kind, ImageFile]]:
    """Yield all images and references of a run."""
    for image in manifest.images:
        yield "image", image
    for concept in manifest.concepts:
        for reference in concept.references:
            yield "reference", reference
            yield "probe", reference


def common_size(sizes: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """Return the most frequent (width, height) in pixels of a run's images, of equally frequent ones the smallest."""
    return min(sizes, key=lambda size: (-sizes[size], size))


def refuse_mixed(run: Path, manifest: Manifest, arms: Collection[str]) -> None:
    """Raise a UserError if images of one case and seed differ in size or file format between arms, which reveals the arm."""
    first: dict[tuple[str, int], tuple[str, tuple[int, int], str]] = {}
    for image in manifest.images:
        if image.arm not in arms:
            continue
        with (run / image.path).open("rb") as file:
            kind = "JPEG" if file.read(2) == b"\xff\xd8" else "lossless"
        arm, size, other_kind = first.setdefault((image.case, image.seed), (image.arm, (image.width, image.height), kind))
        if (size, other_kind) != ((image.width, image.height), kind):
            raise UserError(
                f"{run}: case {image.case}, seed {image.seed}: the image of arm {arm} is {size[0]} x {size[1]} px "
                f"({other_kind}), that of {image.arm} {image.width} x {image.height} px ({kind}), which reveals the arm; "
                "generate them alike, or set mixed_sizes = true in study.toml to resize all to one size"
            )


def make_stimuli(run: Path, manifest: Manifest, tell: Callable[[], None] | None = None, one_size: bool = False) -> int:
    """Encode every image and reference of the run as a stimulus where that is not done yet; return how many were made.

    `tell` is called after each image. With `one_size`, images are cropped and resized to the most frequent size. Each file is
    first compared with the manifest's sha256, so people judge the bytes that were scored.

    Raises:
        UserError: a file is missing, not a readable image, or not the one in the manifest.
    """
    blinding = Blinding(run)
    size = common_size(Counter((image.width, image.height) for image in manifest.images))
    fit = {"image": size if one_size else None, "reference": None, "probe": size}
    made = 0
    for kind, picture in pictures(manifest):
        target = blinding.path(kind, picture.sha256)
        if not target.exists():
            data = pixels.read_bytes(run / picture.path)
            if sha256_bytes(data) != picture.sha256:
                raise UserError(
                    f"{run / picture.path}: differs from the image in the manifest (another sha256); restore it, "
                    "or generate the run again in another folder"
                )
            write_atomic(
                target, encode(data, str(run / picture.path), REFERENCE_SIDE if kind == "reference" else None, fit[kind])
            )
            made += 1
        if tell is not None:
            tell()
    return made


def encode(data: bytes, name: str, longest_side: int | None = None, fit: tuple[int, int] | None = None) -> bytes:
    """Return the image as an 8-bit RGB PNG without metadata, always with the same settings.

    With `longest_side` (pixels) a larger image is reduced; with `fit` it is cropped and resized to that width and height.
    Both use Lanczos resampling.
    """
    bare = pixels.decode(data, name).image.copy()
    # what Pillow would carry over into the new file: text, colour profile, resolution, EXIF
    bare.info.clear()
    if longest_side is not None:
        bare.thumbnail((longest_side, longest_side), PILImage.Resampling.LANCZOS)
    if fit is not None and bare.size != fit:
        bare = ImageOps.fit(bare, fit, PILImage.Resampling.LANCZOS)
        bare.info.clear()
    stream = io.BytesIO()
    bare.save(stream, format="PNG", compress_level=_LEVEL)
    return stream.getvalue()


def pad(data: bytes, size: int, noise: Callable[[int], bytes]) -> bytes:
    """Return a PNG grown to exactly `size` bytes by a private chunk before its end, filled from `noise`."""
    if not data.endswith(_END):
        raise ValueError("the stimulus doesn't end as a PNG does")
    filling = noise(size - len(data) - _CHUNK_FRAME)
    chunk = PADDING_CHUNK + filling
    return data[: -len(_END)] + struct.pack(">I", len(filling)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + _END
