"""Weight lookup: what a model needs, where it is searched, and how to obtain what is missing."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evalkit.errors import MissingWeightsError, UserError, missing_extra, unknown
from evalkit.io.atomic_files import sha256_bytes
from evalkit.weights.hash_cache import known_sha256

VARIABLE = "EVALKIT_WEIGHTS"
FILE_NAME = "weights.toml"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".mat")


@dataclass(frozen=True)
class Source:
    """What a model's weights are called and where the world keeps them."""

    # the key in a weights table, and the file or folder below $EVALKIT_WEIGHTS
    name: str
    # a repository on the Hugging Face hub, and its files in the order the loader needs them; one kept elsewhere by its address,
    # whose name ends in the first digits of its sha256
    hub: str
    files: tuple[str, ...]
    licence: str
    # a folder that holds this file describes its own architecture
    config: str = ""
    # files of the same repository that describe how images and texts reach the net, downloaded with the weights
    companions: tuple[str, ...] = ()

    @property
    def file_names(self) -> tuple[str, ...]:
        """Return what its files are called in a folder."""
        return tuple(file.rpartition("/")[2] for file in self.files)


@dataclass(frozen=True)
class Weights:
    """Weight files that were found."""

    files: tuple[Path, ...]
    # of the file's bytes; for several files, of their hashes one after another
    sha256: str
    origin: str
    # set if the folder also describes the architecture
    folder: Path | None = None

    @property
    def file(self) -> Path:
        """Return the only file."""
        (file,) = self.files
        return file


NO_WEIGHTS = Weights((), "", "needs none")


def find(source: Source, given: Mapping[str, Path], *, download: bool = True) -> Weights:
    """Return the weights of `source`: as given, else below $EVALKIT_WEIGHTS, else from the hub's cache or the hub itself.

    Raises:
        UserError: the place given for them doesn't hold them.
        MissingWeightsError: they are nowhere, and the hub can't be reached.
    """
    if source.name in given:
        return _at(source, given[source.name], f"given as {source.name}")
    path = _below_variable(source)
    if path is not None:
        return _at(source, path, f"${VARIABLE}")
    return _from_hub(source, download=download)


def parse_options(options: Iterable[str]) -> dict[str, Path]:
    """Return the weights that `--weights` options name: each NAME=PATH or a TOML file with a [weights] table."""
    given: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if equals and not Path(option).exists():
            given[name] = Path(path)
        else:
            given.update(read_table(Path(option)))
    return given


def read_table(path: Path) -> dict[str, Path]:
    """Return the [weights] table of a TOML file; relative paths start at the file's folder.

    Raises:
        UserError: it can't be read, has no such table, or the table holds something else than paths.
    """
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream).get("weights")
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror or error}; give NAME=PATH or a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML: {error}; mend that line") from error
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise UserError(f'{path}: needs a table [weights] with lines such as clip = "folder/clip"')
    return {name: path.parent / value for name, value in table.items()}


def check_names(given: Mapping[str, Path], sources: Iterable[Source]) -> None:
    """Raise a UserError if weights are given for an unknown model."""
    known = sorted(source.name for source in sources)
    for name in given:
        if name not in known:
            raise unknown("weights: no model", name, known)


def _at(source: Source, path: Path, origin: str) -> Weights:
    """Return the weights at a path: a file, or a folder with one weight file (or with all files that the model has)."""
    if path.is_file():
        if len(source.files) > 1:
            raise UserError(f"{path}: {source.name} needs a folder with {' and '.join(source.file_names)}, not one file")
        return _hashed((path,), origin)
    if not path.is_dir():
        raise UserError(f"{path}: contains no weights of {source.name}; give a file or a folder")
    if len(source.files) > 1:
        files = tuple(path / name for name in source.file_names)
        for file in files:
            if not file.is_file():
                raise UserError(f"{path}: {file.name} is missing; {source.name} needs {' and '.join(source.file_names)}")
        return _hashed(files, origin)
    weight_files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if len(weight_files) != 1:
        names = ", ".join(file.name for file in weight_files) or "none"
        raise UserError(f"{path}: needs exactly one weight file ({', '.join(SUFFIXES)}); it contains: {names}")
    described = bool(source.config) and (path / source.config).is_file()
    return _hashed((weight_files[0],), origin, path if described else None)


def _hashed(files: tuple[Path, ...], origin: str, folder: Path | None = None) -> Weights:
    hashes = [known_sha256(file) for file in files]
    return Weights(files, hashes[0] if len(hashes) == 1 else sha256_bytes("".join(hashes).encode()), origin, folder)


def _below_variable(source: Source) -> Path | None:
    """Return the file or folder called like the model below $EVALKIT_WEIGHTS, or None."""
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    root = Path(value)
    if not root.is_dir():
        raise UserError(f"${VARIABLE}: {root} is not a folder; set it to a folder of weights")
    matches = [path for path in (root / source.name, *(root / f"{source.name}{end}" for end in SUFFIXES)) if path.exists()]
    if len(matches) > 1:
        raise UserError(f"{root}: {matches[0].name} and {matches[1].name} both match {source.name}; keep one")
    return matches[0] if matches else None


def _from_hub(source: Source, *, download: bool) -> Weights:
    """Return the weights from the hub's local cache, or download them where the hub can be reached.

    Raises:
        MissingWeightsError: they are on no disk here and cannot be downloaded, or the hub's library is not installed.
    """
    try:
        return _from_hub_library(source, download=download)
    except ModuleNotFoundError as error:
        reason = missing_extra(error)
        if reason is None:
            raise
        raise MissingWeightsError(f"{source.name}: {reason}") from error


def _from_hub_library(source: Source, *, download: bool) -> Weights:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        files = tuple(_file(source, name, download=False) for name in source.files)
        return _hashed(files, f"hub cache, {source.hub}", _described(source, files, download=False))
    except LocalEntryNotFoundError:
        pass
    if not download:
        raise MissingWeightsError(f"{source.name}: not in the hub's cache; {how_to_get(source)}")
    if constants.HF_HUB_OFFLINE:
        raise MissingWeightsError(f"{source.name}: not in the hub's cache, and HF_HUB_OFFLINE is set; {how_to_get(source)}")
    if not _reachable(constants.ENDPOINT):
        raise MissingWeightsError(f"{source.name}: not here, and {constants.ENDPOINT} can't be reached; {how_to_get(source)}")
    try:
        files = tuple(_file(source, name, download=True) for name in source.files)
        folder = _described(source, files, download=True)
    # the bases of the hub's own error are those of its HTTP client, whichever that is in the installed version
    except (*HfHubHTTPError.__bases__, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise MissingWeightsError(f"{source.name}: can't be downloaded: {reason}; {how_to_get(source)}") from error
    return _hashed(files, f"hub, {source.hub}", folder)


def _described(source: Source, files: tuple[Path, ...], *, download: bool) -> Path | None:
    """Return the folder that describes the architecture, once all companions of the weights are in it; None without any."""
    for name in source.companions:
        _file(source, name, download=download)
    return files[0].parent if source.companions else None


def _file(source: Source, file: str, *, download: bool) -> Path:
    """Return one file of a model: from the hub's cache or the hub, or, for a file with its own URL, as torch.hub stores it."""
    if "://" not in file:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(source.hub, file, local_files_only=not download))
    from huggingface_hub.errors import LocalEntryNotFoundError
    from torch import hub

    path = Path(hub.get_dir()) / "checkpoints" / file.rpartition("/")[2]
    if not path.is_file():
        if not download:
            raise LocalEntryNotFoundError(f"{path.name} is not in {path.parent}")
        path.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(file, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)
    return path


def how_to_get(source: Source) -> str:
    """Return how a person gets the weights of a model without a hub."""
    one = len(source.files) == 1
    theirs = [file for file in source.files if "://" not in file]
    places = [f"{' and '.join(theirs)} from {source.hub} on huggingface.co"] if theirs else []
    places += [file for file in source.files if "://" in file]
    name = f"{source.name}{Path(source.files[0]).suffix}" if one else f"{source.name}/"
    return (
        f"get {' and '.join(places)}, then give "
        f"--weights {source.name}={'FILE' if one else 'FOLDER'} or put it into ${VARIABLE} as {name}"
    )


@cache
def _reachable(endpoint: str) -> bool:
    """Tell within seconds whether the hub answers, once; its own client would retry for half a minute per file."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(endpoint, method="HEAD"), timeout=5):
            return True
    except HTTPError:
        return True
    except OSError:
        return False
