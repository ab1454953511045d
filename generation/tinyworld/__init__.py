"""Tinyworld: a small synthetic world whose truth is known, with models and concepts trained on it."""

from importlib.resources import files
from pathlib import Path


def weights_folder() -> Path:
    """Return the folder of the shipped weights: `base`, `clip`, `dino`, `loras` and the card that describes them."""
    return Path(str(files("generation"))) / "tinyworld" / "weights"
