"""Files that are either whole or absent: hashes, and writes that a crash can't cut in half."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.errors import UserError


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the sha256 of `data`, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def temporary_beside(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary path next to `path`; on leaving, flush it to disk and rename it to `path`.

    `mode` is the file's permissions, by default those of the umask. Nothing is left where the block raises. A full disk is
    reported as a UserError that names the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(
            f"{path}: can't be written: {error.strerror or error}; choose a folder that you may write to, with space left"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask if mode is None else mode)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}; nothing was changed") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(option: str, folder: Path | None) -> None:
    """Raise a UserError if the folder that an option names is a file, before work is done for it."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"{option} {folder}: is a file; give a folder")


def write_atomic(path: Path, data: bytes | str, mode: int | None = None) -> None:
    """Write `data` (text as UTF-8) to `path`, whole or not at all; `mode` is the file's permissions.

    Raises:
        UserError: the disk is full or the folder can't be written.
    """
    payload = data.encode() if isinstance(data, str) else data
    with temporary_beside(path, mode) as temporary:
        temporary.write_bytes(payload)
