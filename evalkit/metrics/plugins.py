"""Plug-in metrics: from a Python file, or from an installed package with an entry point."""

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from evalkit.distribution import documentation
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.metric_spec.metric_card import MetricCard, by_name
from evalkit.metrics import METRICS

GROUP = "evalkit.metrics"
PREFIX = "evalkit_plugin_"


def known_metrics(plugins: Iterable[Path] = ()) -> Mapping[str, MetricCard]:
    """Return evalkit's metrics, those of installed packages (entry points of `evalkit.metrics`) and those of files.

    Raises:
        UserError: one of them can't be loaded, holds no metric, or two metrics have the same name.
    """
    cards = [card for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name) for card in [_installed(entry)]]
    cards += [card for path in plugins for card in load_plugin(path)]
    if not cards:
        return METRICS
    try:
        return by_name(*METRICS.values(), *cards)
    except ValueError as error:
        raise UserError(f"metrics that were added: {error}; give it another name") from error


def load_plugin(path: Path) -> list[MetricCard]:
    """Return the metrics that a Python file defines, in its order.

    Raises:
        UserError: it isn't there, running it fails, or it defines none.
    """
    if not path.is_file():
        raise UserError(f"{path}: is not a file; --plugin takes a Python file that defines a metric")
    name = f"{PREFIX}{sha256_file(path)[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is not a Python file; --plugin takes one whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            f"{path}: can't be loaded: {type(error).__name__}: {str(error).partition(chr(10))[0]}; mend the file"
        ) from error
    # what the file only imports belongs to others
    cards = [
        value for value in vars(module).values() if isinstance(value, MetricCard) and value.load.__module__ == module.__name__
    ]
    if not cards:
        raise UserError(
            f"{path}: defines no metric; put @evalkit.metric_spec.metric_card.metric above a function, "
            f"as {documentation('metrics.md')} shows"
        )
    return cards


def is_plugin(module: ModuleType) -> bool:
    """Tell whether a module is a file that `load_plugin` ran."""
    return module.__name__.startswith(PREFIX)


def _installed(entry: EntryPoint) -> MetricCard:
    """Return the metric that an installed package offers."""
    try:
        card = entry.load()
    except Exception as error:
        raise UserError(
            f"entry point {entry.name} = {entry.value}: can't be loaded: {type(error).__name__}: {error}"
            "; mend or remove that package"
        ) from error
    if not isinstance(card, MetricCard):
        raise UserError(
            f"entry point {entry.name} = {entry.value}: is not a metric; put @evalkit.metric_spec.metric_card.metric above it"
        )
    return card
