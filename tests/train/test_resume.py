"""A training run that is killed and started again, what it leaves on its way, and its number formats."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evalkit.errors import UserError
from generation.pipeline import load_pipeline
from generation.train.precision import accelerator_for
from generation.train.recipe import read_recipe
from generation.train.trainer import train_lora
from tests.train.conftest import Train, recipe_file

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# everything that draws from some generator
LINES = """
steps = 8
keep_every = 3
text_rank = 2
learning_rate = 1e-2
dropout = 0.1
[consistency]
[dco]
[erasure]
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from generation.pipeline import load_pipeline
from generation.train.recipe import read_recipe
from generation.train.trainer import train_lora
recipe, place, out = map(Path, sys.argv[1:])
def progress(what, done, total):
    if (what, done) == ("training", 7):
        os.kill(os.getpid(), signal.SIGKILL)
way = out.with_suffix(".training")
train_lora(load_pipeline(place / "base"), read_recipe(recipe), place, out, place / "prior-base", progress, way)
"""


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_an_unbroken_one(place: Path, tmp_path: Path, train_tiny: Train):
    unbroken = train_tiny(LINES, "unbroken")
    recipe, out = recipe_file(tmp_path, LINES), tmp_path / "cat.safetensors"
    killed = subprocess.run([sys.executable, "-c", KILLED, recipe, place, out], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    way = tmp_path / "cat.training"
    assert (way / "checkpoint.pt").is_file()
    assert not out.exists()

    def train(name: str) -> None:
        pipeline = load_pipeline(place / "base")
        train_lora(pipeline, read_recipe(recipe_file(tmp_path, name)), place, out, place / "prior-base", seen, way)

    steps: list[int] = []

    def seen(what: str, done: int, total: int) -> None:
        if what == "training":
            steps.append(done)

    with pytest.raises(UserError, match=r"checkpoint\.pt: belongs to another recipe or other images; delete it"):
        train(LINES.replace("1e-2", "1e-3"))
    train(LINES)
    assert steps == [7, 8]
    assert same(out, unbroken)
    # what the way there looked like
    assert not (way / "checkpoint.pt").exists()
    rows = list(csv.DictReader((way / "losses.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 9)]
    assert list(rows[0]) == ["step", "loss", "subject", "prior_consistency", "subject_consistency"]
    for row in rows:
        terms = [float(row[name]) for name in list(row)[2:]]
        assert float(row["loss"]) == pytest.approx(terms[0] + 0.5 * terms[1] + 0.5 * terms[2], rel=1e-5)
    assert (way / "losses.svg").read_text(encoding="utf-8").count("<svg") == 1
    assert sorted(path.name for path in (way / "samples").iterdir()) == ["000003.png", "000006.png", "000008.png"]
    with Image.open(way / "samples" / "000008.png") as drawn:
        assert drawn.size == (16, 16)


def test_a_broken_checkpoint_is_named(place: Path, tmp_path: Path):
    (tmp_path / "way").mkdir()
    (tmp_path / "way" / "checkpoint.pt").write_bytes(b"half")
    recipe = read_recipe(recipe_file(tmp_path, ""))
    with pytest.raises(UserError, match=r"checkpoint\.pt: is not a complete checkpoint"):
        train_lora(
            load_pipeline(place / "base"), recipe, place, tmp_path / "x.safetensors", place / "prior-base", lambda *_: None,
            tmp_path / "way",
        )  # fmt: skip


def test_computing_activations_twice_changes_no_bit(train_tiny: Train):
    lines = LINES.replace("steps = 8", "steps = 3") + "per = 'sample'"
    once = train_tiny(lines, "once")
    assert same(once, train_tiny(f"gradient_checkpointing = true\n{lines.lstrip()}", "twice"))


@pytest.mark.parametrize(("twice", "calls"), [("false", 1), ("true", 2)])
def test_text_encoders_are_computed_twice_too(place: Path, tmp_path: Path, twice: str, calls: int):
    recipe = read_recipe(recipe_file(tmp_path, f"steps = 1\nprior_images = 0\ntext_rank = 2\ngradient_checkpointing = {twice}"))
    pipeline, seen = load_pipeline(place / "base"), []
    # the activation inside a layer of each text encoder
    for encoder in (pipeline.text_encoder, pipeline.text_encoder_2):
        layer = next(layer for name, layer in encoder.named_modules() if name.endswith("layers.0.mlp.fc1"))
        layer.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    train_lora(pipeline, recipe, place, tmp_path / "cat.safetensors", place / "prior-base", lambda *_: None)
    assert seen == [True] * (2 * calls)


def test_half_precision_keeps_what_is_trained_in_float32(place: Path, tmp_path: Path):
    recipe = read_recipe(recipe_file(tmp_path, "dtype = 'bfloat16'\nlearning_rate = 1e-2\ntext_rank = 2"))
    pipeline = load_pipeline(place / "base", "bfloat16")
    train_lora(pipeline, recipe, place, tmp_path / "cat.safetensors", place / "prior-base", lambda *_: None)
    kinds = {name.partition("lora_")[1]: weight.dtype for name, weight in pipeline.unet.named_parameters()}
    assert kinds == {"": torch.bfloat16, "lora_": torch.float32}
    assert any(tensor.abs().max() > 0 for key, tensor in load_file(tmp_path / "cat.safetensors").items() if "lora_B" in key)


def test_float16_is_refused_where_the_loss_cannot_be_scaled():
    with pytest.raises(UserError, match="dtype float16: cannot be trained on the CPU; give bfloat16 or float32"):
        accelerator_for(torch.device("cpu"), torch.float16)
