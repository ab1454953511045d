"""Export archives: one zip file with canonical metadata, written atomically and read with limits."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside
from evalkit.plural import plural

SUMS_NAME = "SHA256SUMS"
# the earliest time a zip file can hold: an export has no separate time
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o600 << 16
MOST_FILES = 64
MOST_BYTES = 4 * 2**30


def write_archive(target: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their SHA256SUMS to a zip file, readable by its owner alone."""
    content = {**files, SUMS_NAME: sums_of(files)}
    with temporary_beside(target, 0o600) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in sorted(content.items()):
            bundle.writestr(_entry(name), data)


def read_archive(path: Path) -> tuple[dict[str, bytes], bool]:
    """Return the files of an archive, each held to SHA256SUMS, and whether the archive's metadata are canonical.

    Raises:
        UserError: the file is not a zip file, is implausibly large, names a file twice or outside its folder, or a file does
            not have its hash.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = bundle.infolist()
            _refuse_implausible(path, entries)
            files = {entry.filename: bundle.read(entry) for entry in entries}
            plain = not bundle.comment and all(_is_canonical(entry) for entry in entries)
            in_order = [entry.filename for entry in entries] == sorted(files)
    except FileNotFoundError as error:
        raise UserError(f"{path}: does not exist; give the file that `evalkit study export` wrote") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{path}: is not a readable zip file ({error}); export the study again") from error
    except zlib.error as error:
        raise UserError(f"{path}: is damaged ({error}); export the study again") from error
    _check_sums(path, files)
    return files, plain and in_order


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Return the content of SHA256SUMS, which `sha256sum -c` checks."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()


def _check_sums(path: Path, files: Mapping[str, bytes]) -> None:
    try:
        lines = [line.split("  ", 1) for line in files[SUMS_NAME].decode("ascii").splitlines()]
        sums = {name: digest for digest, name in lines}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: {SUMS_NAME} is missing or malformed; give a file of `evalkit study export`") from error
    for name in sorted(sums.keys() ^ (files.keys() - {SUMS_NAME})):
        problem = "is missing" if name in sums else f"is not in {SUMS_NAME}"
        raise UserError(f"{path}: {name!r} {problem}; the archive is not a complete export")
    for name, digest in sums.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise UserError(f"{path}: {name} was changed after the export (another sha256); use the original archive")


def _refuse_implausible(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise UserError(f"{path}: is implausibly large ({plural(len(names), 'file')}); give a file of `evalkit study export`")
    for name in names:
        if names.count(name) > 1 or "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"{path}: has an invalid file name {name!r}; give a file of `evalkit study export`")


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = _MODE
    entry.create_system = 3
    return entry


def _is_canonical(entry: zipfile.ZipInfo) -> bool:
    wanted = _entry(entry.filename)
    names = ("date_time", "compress_type", "external_attr", "create_system", "comment", "extra", "internal_attr")
    return all(getattr(entry, name) == getattr(wanted, name) for name in names)
