"""State of this machine: package versions, device, location of weights, checks of models, warnings."""

import platform
import sqlite3
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from evalkit import __version__
from evalkit.distribution import install_command
from evalkit.errors import MissingWeightsError, UserError
from evalkit.metrics.models import known_models, known_sources
from evalkit.weights.lookup import NO_WEIGHTS, check_names, find

PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "timm", "pyiqa", "torch-fidelity", "diffusers", "transformers",
    "peft", "streamlit", "sqlalchemy", "pandas", "scipy", "statsmodels", "numpy", "pillow",
)  # fmt: skip
# Versions before these can lose a database in WAL mode when two connections checkpoint at once (sqlite.org/wal.html).
WAL_RESET_FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))


def versions() -> Iterator[tuple[str, str]]:
    """Yield the version, or "not installed", of Python, SQLite and each package that can change a number."""
    yield "python", platform.python_version()
    yield "sqlite", sqlite3.sqlite_version
    yield "evalkit", __version__
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def device() -> str:
    """Return the device that scoring would use."""
    try:
        from evalkit.encoders.device import choose_device

        return choose_device(None)
    except ModuleNotFoundError:
        return f"none: torch is not installed; run: {install_command('metrics')}"


def weights_found(given: Mapping[str, Path]) -> Iterator[tuple[str, str, str]]:
    """Yield each model, the location of its weights (or why there are none), and their sha256."""
    sources = known_sources()
    check_names(given, sources.values())
    for name, source in sources.items():
        try:
            weights = find(source, given, download=False)
        except MissingWeightsError as error:
            yield name, f"missing: {error}", ""
        except UserError as error:
            yield name, f"wrong: {error}", ""
        else:
            yield name, weights.origin, weights.sha256


def checked_models(given: Mapping[str, Path]) -> Iterator[tuple[str, list[str] | None]]:
    """Yield each model that can be loaded here, with every deviation from its signature; None: its package is absent."""
    if find_spec("torch") is None:
        return
    from evalkit.cli.model_checks import faults

    for name, model in known_models().items():
        try:
            weights = find(model.source, given, download=False) if model.source else NO_WEIGHTS
            yield name, list(faults(model.load(weights, "cpu")))
        except MissingWeightsError:
            continue
        except UserError as error:
            yield name, [str(error)]
        except ModuleNotFoundError:
            yield name, None


def warnings() -> Iterator[str]:
    """Yield known faults of installed libraries that can lose data."""
    if not _wal_is_safe(sqlite3.sqlite_version_info):
        yield (
            f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: a study with several writers may lose judgments; "
            "use a Python build with a newer SQLite, or PostgreSQL (--db)"
        )


def _wal_is_safe(number: tuple[int, ...]) -> bool:
    """Return whether this SQLite has the fix, which two older branches also received."""
    return number >= WAL_RESET_FIXED[-1] or any(number[:2] == fixed[:2] and number >= fixed for fixed in WAL_RESET_FIXED)
