"""A folder of weights to carry to a machine without network: in the hub's own shape, with the sha256 of every file."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file, write_atomic
from evalkit.weights.lookup import VARIABLE, Source, find

SUMS = "SHA256SUMS"
# What the hub's library keeps for itself, and the endings of what is still under way there and in torch.hub.
THEIRS = frozenset({"blobs", "refs", ".locks", ".no_exist", "CACHEDIR.TAG"})
UNFINISHED = (".incomplete", ".partial", ".part")
LARGE_FILE = re.compile(r"[0-9a-f]{64}")
# A package that reads experiments registers here what one fetches from the hub.
NEEDS = "evalkit.hub_requirements"

# gives a file or folder, or several files
Fetch = Callable[[], Path | tuple[Path, ...]]


def use_folder(folder: Path) -> None:
    """Let the hub's library and torch.hub keep their files in this folder, for as long as the process lives."""
    # libraries take it from the environment when they are imported
    os.environ |= variables(folder.resolve())
    # files elsewhere on this machine are not part of the folder
    os.environ.pop(VARIABLE, None)
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import constants

        constants.HF_HUB_CACHE = os.environ["HF_HUB_CACHE"]


def variables(folder: Path) -> dict[str, str]:
    """Return the environment in which everything looks for its weights in this folder."""
    return {"HF_HUB_CACHE": str(folder / "hub"), "TORCH_HOME": str(folder / "torch")}


def wanted(sources: Mapping[str, Source], experiment: str | None) -> dict[str, Fetch]:
    """Return what is to be fetched, by the name it is shown under: weights of metrics, and an experiment's models.

    Raises:
        UserError: the experiment is unknown.
    """
    fetches: dict[str, Fetch] = {}
    if experiment is not None:
        for entry in entry_points(group=NEEDS):
            needs = entry.load()(experiment)
            fetches.update(needs.downloads)
            sources = {name: source for name, source in sources.items() if name not in needs.provided}
    for name, source in sources.items():
        fetches[f"{name}: {' and '.join(source.files)} of {source.hub}"] = _fetch(source)
    return fetches


def fetch(folder: Path, fetches: Mapping[str, Fetch]) -> Iterator[tuple[str, str | None]]:
    """Fetch one after another; yield each name with None, or with the reason it is unavailable.

    A file that arrives with another hash than the hub names is thrown away. At the end the folder's SHA256SUMS is written,
    unless nothing is there. What was fetched before is not fetched again; a download that broke off is continued.
    """
    for name, get in fetches.items():
        try:
            fetched = get()
            for path in fetched if isinstance(fetched, tuple) else (fetched,):
                _check(path)
        except UserError as error:
            yield name, str(error)
        else:
            yield name, None
    sums = {file.relative_to(folder).as_posix(): sha256_file(file) for file in _files(folder)}
    if sums:
        write_atomic(folder / SUMS, "".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()))


def verify(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every file of a folder that was fetched with its state: ok, or what is wrong with it.

    Raises:
        UserError: the folder has no readable list of hashes.
    """
    listed = _read_sums(folder / SUMS)
    present = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    for name, sha256 in listed.items():
        if name not in present:
            yield name, "gone"
        else:
            yield name, "ok" if sha256_file(present[name]) == sha256 else "damaged: its sha256 differs"
    for name in present.keys() - listed.keys():
        yield name, "unknown: not in " + SUMS


def _fetch(source: Source) -> Fetch:
    def get() -> tuple[Path, ...]:
        return find(source, {}).files

    return get


def _check(path: Path) -> None:
    """Remove a large file whose sha256 differs from the hub's name for it, and raise a UserError."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        blob = file.resolve()
        if LARGE_FILE.fullmatch(blob.name) and sha256_file(blob) != blob.name:
            file.unlink()
            blob.unlink(missing_ok=True)
            raise UserError(
                f"{file.name}: arrived damaged: its sha256 is not {blob.name[:12]}…, which the hub states; fetch it again"
            )


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files that a folder in the hub's shape offers, each under its name and not under its hash."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not path.name.endswith(UNFINISHED) and not THEIRS & set(parts) and path != folder / SUMS:
            yield path


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}; give a folder that `evalkit weights fetch` filled") from error
    sums = {}
    for number, line in enumerate(lines, start=1):
        sha256, gap, name = line.partition("  ")
        if not (gap and LARGE_FILE.fullmatch(sha256)):
            raise UserError(f"{path}: line {number} is not `sha256  name`; fetch the weights again")
        sums[name] = sha256
    return sums
