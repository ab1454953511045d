"""Tiny pipelines, loaded once through the production path, and an experiment on them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image

from generation.pipeline import Pipeline, load_pipeline
from tests.tiny import adapted, save_kohya_lora, save_peft_lora, save_sd15, save_sdxl
from tests.tiny_families import BUILDERS

CONVOLUTIONS = r"conv1$|ff\.net\.0\.proj$|fc1$"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an SDXL-shaped model, an SD-1.5-shaped one, and three LoRAs of different ranks, formats and layers."""
    folder = tmp_path_factory.mktemp("world")
    save_sd15(folder / "sd15")
    pipeline = load_pipeline(save_sdxl(folder / "sdxl"))
    attention = adapted(pipeline)
    save_peft_lora(folder / "star.safetensors", attention, rank=4, seed=1)
    save_kohya_lora(folder / "ring.safetensors", {**attention, **adapted(pipeline, CONVOLUTIONS)}, ranks=(4, 8, 16), seed=2)
    save_peft_lora(folder / "moon.safetensors", adapted(pipeline, r"^(?!.*layers).*to_[kv]$"), rank=2, seed=3)
    (folder / "references").mkdir()
    for name, colour in (("b.png", "red"), ("a.jpg", "blue")):
        Image.new("RGB", (12, 10), colour).save(folder / "references" / name)
    return folder


@pytest.fixture(scope="session")
def sdxl(world: Path) -> Pipeline:
    """The SDXL-shaped pipeline. Tests leave its weights as they were; one of them proves it."""
    return load_pipeline(world / "sdxl")


@pytest.fixture(scope="session")
def sd15(world: Path) -> Pipeline:
    return load_pipeline(world / "sd15")


@pytest.fixture(scope="session")
def built() -> Callable[[str], Pipeline]:
    """Return the tiny pipeline of a family of transformers, in memory. Tests leave its weights as they were."""

    @cache
    def build(name: str) -> Pipeline:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return BUILDERS[name]()

    return build


EXPERIMENT = """
name = "tiny"

[base]
model = "sdxl"

[sampling]
steps = 2
guidance = 5.0
width = 16
height = 16

[[concepts]]
name = "star"
words = "<s> star"
class_word = "star"
adapter = "star.safetensors"
references = "references"

[[concepts]]
name = "ring"
words = "<r> ring"
class_word = "ring"
adapter = "ring.safetensors"

[[concepts]]
name = "moon"
words = "<m> moon"
class_word = "moon"
adapter = "moon.safetensors"
weight = 0.8

[[arms]]
label = "direct"
method = "direct"

[[arms]]
label = "mc"
method = "mc_dropout"

[[arms]]
label = "orthogonal"
method = "orthogonal_mc_dropout"
parameters = { p = 0.5 }

[cases_from]
choose = 2
template = "{0} {1}"
negative_prompt = ""
seeds = 2
"""


@pytest.fixture
def experiment_file(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the experiment, with some text replaced, to a folder of its own that reaches the world's files."""

    def write(*changes: tuple[str, str]) -> Path:
        text = EXPERIMENT
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        for item in world.iterdir():
            link = tmp_path / item.name
            if not link.exists():
                link.symlink_to(item)
        path = tmp_path / "experiment.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
