"""A tiny model, two images of a concept and a recipe, shared by the tests of training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation.pipeline import load_pipeline
from generation.train.recipe import read_recipe
from generation.train.trainer import train_lora
from tests.tiny import save_sd15, save_sdxl

RECIPE = """
concept = "cat"
base = "base"
references = "cats"
prompt = "a V cat"
class_prompt = "a cat"
size = 16
prior_images = 2
prior_steps = 2
rank = 2
steps = 3
batch = 2
"""
# trains the tiny recipe with these lines of TOML in place of or beside its own; returns the LoRA file
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    save_sdxl(folder / "base")
    save_sd15(folder / "sd15")
    (folder / "cats").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "cats" / f"{number}.png")
    (folder / "cats" / "1.txt").write_text("a V cat, asleep")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def recipe_file(folder: Path, lines: str) -> Path:
    """Write the tiny recipe with `lines` in place of its own of the same keys; return the file."""
    given = {line.split("=")[0].strip() for line in lines.partition("[")[0].splitlines()}
    kept = [line for line in RECIPE.splitlines() if line.split("=")[0].strip() not in given]
    (folder / "changed.toml").write_text("\n".join([*kept, lines]))
    return folder / "changed.toml"


@pytest.fixture
def train_tiny(place: Path, tmp_path: Path) -> Train:
    def train(lines: str = "", name: str = "cat", base: str = "base") -> Path:
        recipe = read_recipe(recipe_file(tmp_path, lines))
        out = tmp_path / f"{name}.safetensors"
        train_lora(load_pipeline(place / base), recipe, place, out, place / f"prior-{base}", lambda *_: None)
        return out

    return train
