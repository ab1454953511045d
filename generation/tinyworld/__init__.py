"""Tinyworld: a small synthetic world whose truth is known, with models and concepts trained on it."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generation.tinyworld.concepts import Concept


def weights_folder() -> Path:
    """Return the folder of the shipped weights: `base`, `clip`, `dino`, `loras` and the card that describes them."""
    return Path(str(files("generation"))) / "tinyworld" / "weights"


def concepts() -> "Mapping[str, Concept]":
    """Return tinyworld's concepts by name."""
    from generation.tinyworld.concepts import CONCEPTS

    return CONCEPTS


def write_references(folder: Path) -> None:
    """Write five reference images per concept to `folder`/<concept>/<number>.png."""
    from generation.tinyworld import concepts as looks

    looks.write_references(folder)
