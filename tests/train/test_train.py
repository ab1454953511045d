"""Training a concept's LoRA: recipe and the whole loop on a tiny SDXL pipeline."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer import Typer
from typer.testing import CliRunner

from evalkit.errors import UserError
from generation.lora.lora_file import load_lora
from generation.pipeline import load_pipeline
from generation.train.command import train
from generation.train.recipe import TrainingRecipe, read_recipe
from generation.train.trainer import train_lora
from generation.train.training_images import prior_images
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
    with pytest.raises(UserError, match=r"0\.png: is not a readable image"):
        run(place, tmp_path / "cat.safetensors", references=str(tmp_path / "bad"))


def test_defaults_are_those_of_the_reference():
    recipe = TrainingRecipe(concept="c", base="b", references="r", prompt="p", class_prompt="q")
    assert (recipe.rank, recipe.learning_rate, recipe.text_learning_rate, recipe.prior_weight) == (4, 1e-4, 5e-6, 1.0)
