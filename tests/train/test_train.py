"""Training a concept's LoRA: losses, recipe, and the whole loop on a tiny SDXL pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors import safe_open
from typer import Typer
from typer.testing import CliRunner

from evalkit.errors import UserError
from generation.lora import load_lora
from generation.pipeline import load_pipeline
from generation.train.command import train
from generation.train.losses import dreambooth_loss, wanted
from generation.train.recipe import Recipe, read_recipe
from generation.train.trainer import train_lora
from tests.tiny import save_sdxl

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    save_sdxl(folder / "base")
    (folder / "cats").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "cats" / f"{number}.png")
    (folder / "cats" / "1.txt").write_text("a V cat, asleep")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def run(place: Path, out: Path, **changes: object) -> Path:
    recipe = read_recipe(place / "recipe.toml").model_copy(update=changes)
    train_lora(load_pipeline(place / "base"), recipe, place, out, place / "prior", lambda *_: None)
    return out


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_guess_of_any_kind_costs_nothing(kind: str):
    scheduler = DDPMScheduler(prediction_type=kind)
    clean, noise, when = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([0, 500, 999])
    target = wanted(scheduler, clean, noise, when)
    assert dreambooth_loss(target, target, 2, 1.0) == 0
    # the scheduler agrees on what the target means: it gets the clean latents back
    noisy = scheduler.add_noise(clean, noise, when)
    back = [scheduler.step(target[i : i + 1], int(t), noisy[i : i + 1]).pred_original_sample for i, t in enumerate(when[:2])]
    assert torch.allclose(torch.cat(back).clamp(-1, 1), clean[:2].clamp(-1, 1), atol=1e-2)


def test_an_unknown_prediction_type_is_refused():
    scheduler = DDPMScheduler(prediction_type="flow")
    with pytest.raises(ValueError, match="'flow'; known: epsilon"):
        wanted(scheduler, torch.zeros(1), torch.zeros(1), torch.zeros(1))


def test_prior_images_weigh_as_told():
    guess, target = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    assert dreambooth_loss(guess, target, 1, 0.5) == 1 + 0.5 * 4
    assert dreambooth_loss(guess, target, 2, 0.5) == 2.5


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('colour = "red"', "colour: unknown key"),
        ("rank = 0", "rank: Input should be greater"),
        ("learning_rate = inf", "learning_rate"),
    ],
)
def test_mistakes_in_a_recipe_are_named(place: Path, tmp_path: Path, change: str, message: str):
    key = change.split()[0]
    lines = [line for line in RECIPE.splitlines() if not line.startswith(key + " ")]
    (tmp_path / "r.toml").write_text("\n".join([*lines, change]))
    with pytest.raises(UserError, match=message):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("to_x",)}, "targets: no layer of the unet ends in 'to_x'"),
        ({"references": "dogs"}, "no such folder"),
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
    with pytest.raises(UserError, match=r"0\.png: can't be read"):
        run(place, tmp_path / "cat.safetensors", references=str(tmp_path / "bad"))


def test_defaults_are_those_of_the_reference():
    recipe = Recipe(concept="c", base="b", references="r", prompt="p", class_prompt="q")
    assert (recipe.rank, recipe.learning_rate, recipe.text_learning_rate, recipe.prior_weight) == (4, 1e-4, 5e-6, 1.0)
