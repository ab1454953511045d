"""Training a concept's LoRA: recipe and the whole loop on a tiny SDXL pipeline."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer import Typer
from typer.testing import CliRunner

from evalkit.errors import UserError
from generation.lora.lora_file import load_lora
from generation.pipeline import load_pipeline
from generation.train.command import train
from generation.train.recipe import TrainingRecipe, read_recipe
from generation.train.trainer import train_lora
from generation.train.training_images import prior_images
from generation.train.training_notes import KEY, recipe_digest, stays, trained_digest
from tests.train.conftest import recipe_file

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def run(place: Path, out: Path, **changes: object) -> Path:
    recipe = read_recipe(place / "recipe.toml").model_copy(update=changes)
    train_lora(load_pipeline(place / "base"), recipe, place, out, place / "prior", lambda *_: None)
    return out


def test_the_file_is_read_back_with_its_rank_and_scale_one(place: Path, tmp_path: Path):
    out = run(place, tmp_path / "cat.safetensors", text_rank=3, targets=("to_q", "to_v", "ff.net.2", "conv1"))
    lora = load_lora(out, load_pipeline(place / "base"))
    assert {scale for scale in lora.scales.values()} == {1.0}
    ranks = {layer.split(".")[0]: factors.rank for layer, factors in lora.factors.items()}
    assert ranks == {"unet": 2, "text_encoder": 3, "text_encoder_2": 3}
    assert any(layer.endswith("conv1") for layer in lora.factors)
    pipeline = load_pipeline(place / "base")
    pipeline.load_lora_weights(str(out))
    assert set(pipeline.get_list_adapters()) == {"unet", "text_encoder", "text_encoder_2"}


def test_alpha_reaches_the_file(place: Path, tmp_path: Path):
    out = run(place, tmp_path / "cat.safetensors", alpha=1.0)
    assert set(load_lora(out, load_pipeline(place / "base")).scales.values()) == {0.5}


def test_the_same_seed_trains_the_same_lora_and_leaves_the_global_generator_alone(place: Path, tmp_path: Path):
    before = torch.random.get_rng_state()
    first, second = (run(place, tmp_path / f"{name}.safetensors", steps=2) for name in "ab")
    assert torch.equal(before, torch.random.get_rng_state())
    with safe_open(first, "pt") as a, safe_open(second, "pt") as b:
        assert all(torch.equal(a.get_tensor(key), b.get_tensor(key)) for key in a.keys())
        assert any(a.get_tensor(key).abs().sum() > 0 for key in a.keys() if "lora_B" in key)


def test_training_lowers_the_loss(place: Path, tmp_path: Path):
    recipe = read_recipe(place / "recipe.toml").model_copy(
        update={
            "steps": 30,
            "learning_rate": 2e-2,
            "prior_images": 0,
            "targets": ("to_v", "conv1", "conv2"),
        }
    )
    trained = train_lora(
        load_pipeline(place / "base"), recipe, place, tmp_path / "x.safetensors", place / "prior", lambda *_: None
    )
    assert trained.last_loss < trained.first_loss


def test_the_command_writes_the_file_and_keeps_the_prior_images(place: Path, tmp_path: Path):
    app = Typer()
    app.command()(train)
    out = tmp_path / "out" / "cat.safetensors"
    result = CliRunner().invoke(app, [str(place / "recipe.toml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.is_file()
    assert len(list((out.parent / "prior").glob("*/*.png"))) == 2
    assert {path.name for path in (tmp_path / "out" / "cat.training").iterdir()} == {"losses.csv", "losses.svg", "samples"}


def test_prior_images_are_drawn_once_and_kept(place: Path, tmp_path: Path):
    recipe, drawn = read_recipe(place / "recipe.toml"), []
    pipeline = load_pipeline(place / "base")
    first = prior_images(pipeline, recipe, tmp_path, lambda done, total: drawn.append(done))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert (drawn, len(files)) == ([2], 2)
    # another way of training on the same class asks for the same images; one that was lost is drawn again, to the same bytes
    lost = min(files)
    before = lost.read_bytes()
    lost.unlink()
    other = recipe.model_copy(update={"rank": 3, "steps": 9, "prompt": "a W cat"})
    again = prior_images(pipeline, other, tmp_path, lambda done, total: drawn.append(done))
    assert drawn == [2, 2]
    assert [image.tobytes() for image, _ in again] == [image.tobytes() for image, _ in first]
    assert lost.read_bytes() == before
    assert all(path.stat().st_mtime_ns == when for path, when in files.items() if path != lost)
    prior_images(pipeline, recipe, tmp_path, lambda done, total: drawn.append(done))
    assert drawn == [2, 2]


def test_prior_images_are_drawn_for_several_class_prompts_in_turn(place: Path):
    recipe = read_recipe(place / "recipe.toml").model_copy(
        update={"class_prompt": ("a cat", "a cat and a dog"), "prior_images": 3}
    )
    pictures = prior_images(load_pipeline(place / "base"), recipe, place / "prior", lambda *_: None)
    assert [prompt for _, prompt in pictures] == ["a cat", "a cat and a dog", "a cat"]
    assert len({image.tobytes() for image, _ in pictures}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('colour = "red"', "colour: unknown key"),
        ("rank = 0", "rank: must be"),
        ("learning_rate = inf", "learning_rate"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path: Path, change: str, message: str):
    with pytest.raises(UserError, match=message):
        read_recipe(recipe_file(tmp_path, change))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("to_x",)}, "targets: no layer of the unet ends in 'to_x'"),
        ({"references": "dogs"}, "the folder does not exist"),
        ({"references": "tinyworld"}, "tinyworld has no 'cat'; it has zigzag_disc"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(place: Path, tmp_path: Path, changes: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        run(place, tmp_path / "cat.safetensors", **changes)
    assert not (tmp_path / "cat.safetensors").exists()


def test_a_broken_image_is_named(place: Path, tmp_path: Path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png: is not an image"):
        run(place, tmp_path / "cat.safetensors", references=str(tmp_path / "bad"))


def test_defaults_are_those_of_the_reference():
    recipe = TrainingRecipe(concept="c", base="b", references="r", prompt="p", class_prompt="q")
    assert (recipe.rank, recipe.learning_rate, recipe.text_learning_rate, recipe.prior_weight) == (4, 1e-4, 5e-6, 1.0)


def test_the_file_says_how_it_was_trained(place: Path, tmp_path: Path):
    out = run(place, tmp_path / "cat.safetensors", rank_dropout=0.25, seed=5)
    with safe_open(out, "pt") as file:
        header = file.metadata()
    described = json.loads(header[KEY])
    recipe = read_recipe(place / "recipe.toml").model_copy(update={"rank_dropout": 0.25, "seed": 5})
    assert described["digest"] == recipe_digest(recipe) == trained_digest(out)
    assert TrainingRecipe.model_validate(described["recipe"]) == recipe
    assert described["steps"] == recipe.steps
    assert [image["prompt"] for image in described["images"]] == ["a V cat", "a V cat, asleep"]
    assert len({image["sha256"] for image in described["images"]}) == 2
    assert header["ss_network_dim"] == "2"
    assert header["ss_network_dropout"] == "0.25"
    assert header["ss_seed"] == "5"
    assert header["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(place: Path, tmp_path: Path, monkeypatch):
    from generation.train import trainer

    total = trainer.Objective.total
    calls = []

    def poisoned(self, terms):
        calls.append(1)
        return total(self, terms) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(trainer.Objective, "total", poisoned)
    recipe = read_recipe(place / "recipe.toml").model_copy(update={"steps": 6, "keep_every": 2, "samples": 0})
    out, folder = tmp_path / "cat.safetensors", tmp_path / "cat.training"
    with pytest.raises(UserError, match=r"cat: step 4: the loss is nan, so no LoRA is written; the checkpoint of step 2 stays"):
        train_lora(load_pipeline(place / "base"), recipe, place, out, place / "prior", lambda *_: None, folder)
    assert not out.exists()
    assert (folder / "checkpoint.pt").is_file()
    # the rest is trained from there, to the bits of a run that was never disturbed
    train_lora(load_pipeline(place / "base"), recipe, place, out, place / "prior", lambda *_: None, folder)
    whole = tmp_path / "whole.safetensors"
    train_lora(load_pipeline(place / "base"), recipe, place, whole, place / "prior", lambda *_: None)
    assert out.read_bytes() == whole.read_bytes()


def test_a_rate_that_destroys_the_weights_writes_nothing(place: Path, tmp_path: Path):
    # a change of weights beyond float32's range
    with pytest.raises(UserError, match=r"cat: step \d+: .* so no LoRA is written; lower learning_rate \(it is 1e\+20\)"):
        run(place, tmp_path / "cat.safetensors", learning_rate=1e20, steps=8)
    assert not (tmp_path / "cat.safetensors").exists()


def test_a_loss_that_rises_and_odd_references_are_told(place: Path, tmp_path: Path):
    lines: list[str] = []
    # steps differ by their noise, so that with a rate of nearly nothing the loss rises with some seeds and falls with others
    rose = {}
    for seed in range(4):
        recipe = read_recipe(place / "recipe.toml").model_copy(update={"learning_rate": 1e-9, "steps": 2, "seed": seed})
        out = tmp_path / f"{seed}.safetensors"
        trained = train_lora(
            load_pipeline(place / "base"), recipe, place, out, place / "prior", lambda *_: None, say=lines.append
        )
        assert lines.pop(0) == f"{place / 'cats'}: 2 images, 1 with captions"
        rose[trained.last_loss > trained.first_loss] = len(lines) == 1 and "the loss rose from" in lines[0]
        lines.clear()
    assert rose == {True: True, False: False}


def test_a_file_of_another_recipe_is_kept_aside_and_trained_again(place: Path, tmp_path: Path):
    out = run(place, tmp_path / "cat.safetensors")
    old = out.read_bytes()
    lines: list[str] = []
    recipe = read_recipe(place / "recipe.toml")
    assert stays(out, recipe, lines.append)
    assert lines == []
    assert not stays(out, recipe.model_copy(update={"steps": 9}), lines.append)
    kept = out.with_name(f"cat.{recipe_digest(recipe)[:8]}.safetensors")
    assert kept.read_bytes() == old
    assert out.read_bytes() == old
    assert kept.name in lines[0]
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    assert stays(foreign, recipe, lines.append)
    assert "names no recipe, so it stays" in lines[1]
