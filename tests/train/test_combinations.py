"""Every loss with every adapter: a file that plain diffusers loads; and what training holds, merged and drawn end to end."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from generation.experiment_file import read_experiment
from generation.lora.lora_file import load_lora
from generation.pipeline import load_pipeline
from generation.run import generate
from generation.tinyworld import weights_folder
from generation.train.recipe import read_recipe
from generation.train.trainer import train_lora
from tests.train.conftest import Train

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

LOSSES = {
    "dreambooth": "",
    "noise consistency": "[consistency]",
    "dco": "[dco]",
    "both": "[consistency]\n[dco]",
}
ADAPTERS = {
    "lora": "",
    "blocklora": "[blocks]\nslot = 0\nslots = 4\n[erasure]\n",
    "orthogonal adaptation": "[basis]\nslot = 0\n",
    "ed-lora": '[embeddings]\nwords = ["<v1>", "<v2>"]\nclass_word = "cat"\n',
}
# convolutions, feed-forward, both text encoders, both dropouts, and activations computed twice
EVERYWHERE = """
prompt = "a <v1> <v2>"
steps = 2
learning_rate = 1e-2
text_learning_rate = 1e-2
text_rank = 2
dropout = 0.1
rank_dropout = 0.1
gradient_checkpointing = true
targets = ["to_q", "to_out.0", "ff.net.0.proj", "conv1", "proj_in"]
text_targets = ["q_proj", "fc1"]
"""


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_combination_trains_and_loads_in_plain_diffusers(loss: str, adapter: str, place: Path, train_tiny: Train):
    file = train_tiny(f"{EVERYWHERE}{LOSSES[loss]}\n{ADAPTERS[adapter]}")
    plain = load_pipeline(place / "base")
    lora = load_lora(file, plain)
    moved = {name.split(".")[0] for name, part in lora.factors.items() if part.up.abs().max() > 0}
    assert moved == {"unet", "text_encoder", "text_encoder_2"}
    assert any(name.endswith("conv1") for name in lora.factors)
    assert all(torch.isfinite(value).all() for value in load_file(file).values())
    assert file.with_suffix(".embeddings.safetensors").is_file() == (adapter == "ed-lora")
    plain.load_lora_weights(str(file))
    assert set(plain.get_list_adapters()) == {"unet", "text_encoder", "text_encoder_2"}


RECIPE = """
concept = "{concept}"
base = "tinyworld"
references = "tinyworld"
prompt = "a {token}"
class_prompt = "a thing"
size = 64
prior_images = 0
steps = 2
rank = 2
text_rank = 2
learning_rate = 1e-2
text_learning_rate = 1e-2
"""
CONCEPTS = {"bead_ring": "qmb ring", "face_star": "fwx star"}
HELD = {
    "blocks": "[blocks]\nslot = {slot}\nslots = 4\n[erasure]\n",
    "basis": "[basis]\nslot = {slot}\n",
}
EXPERIMENT = """
name = "held"
[base]
model = "tinyworld"
[sampling]
steps = 2
guidance = 3.0
width = 64
height = 64
[[arms]]
label = "rows"
method = "blocklora"
parameters = { weights = "sum" }
adapters = "blocks"
[[arms]]
label = "inputs"
method = "orthogonal_adaptation"
adapters = "basis"
[[cases]]
id = "pair"
concepts = ["bead_ring", "face_star"]
prompt = "a qmb ring and a fwx star"
seeds = 1
"""
CONCEPT = """
[[concepts]]
name = "{concept}"
words = "{token}"
class_word = "thing"
adapter = "blocks/{concept}.safetensors"
"""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two tinyworld concepts, each trained in a slot of rows and in one of a basis, and an experiment."""
    folder = tmp_path_factory.mktemp("held")
    for kind, table in HELD.items():
        for slot, (concept, token) in enumerate(CONCEPTS.items()):
            recipe = folder / "recipe.toml"
            recipe.write_text(RECIPE.format(concept=concept, token=token) + table.format(slot=slot))
            out = folder / kind / f"{concept}.safetensors"
            train_lora(load_pipeline(weights_folder() / "base"), read_recipe(recipe), folder, out, folder, lambda *_: None)
    text = EXPERIMENT + "".join(CONCEPT.format(concept=concept, token=token) for concept, token in CONCEPTS.items())
    (folder / "held.toml").write_text(text)
    return folder


def draw(path: Path, run: Path, change: Callable[[str], str] = str) -> Manifest:
    path.with_name("changed.toml").write_text(change(path.read_text()))
    return generate(read_experiment(path.with_name("changed.toml")), run, path.parent, device="cpu")


def test_what_training_held_is_merged_and_drawn(held: Path, tmp_path: Path):
    made = draw(held / "held.toml", tmp_path / "run")
    assert len({image.sha256 for image in made.images}) == 2
    assert made.complete(tmp_path / "run") == made


def test_a_slot_of_rows_taken_twice_is_refused_before_an_image_is_drawn(held: Path, tmp_path: Path):
    (held / "twice").mkdir(exist_ok=True)
    for concept in CONCEPTS:
        (held / "twice" / f"{concept}.safetensors").write_bytes((held / "blocks" / "bead_ring.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"slot 0 is taken by bead_ring\.safetensors and face_star\.safetensors"):
        draw(held / "held.toml", tmp_path / "run", lambda text: text.replace('"blocks"\n[[arms', '"twice"\n[[arms'))
    assert not list((tmp_path / "run").rglob("*.png"))


def test_loras_held_otherwise_are_refused(held: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"has no evalkit\.slot, so this LoRA was not trained with BlockLoRA"):
        draw(held / "held.toml", tmp_path / "run", lambda text: text.replace('"blocks"\n[[arms', '"basis"\n[[arms'))
