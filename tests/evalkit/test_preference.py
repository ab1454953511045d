"""HPSv2 and PickScore: the numbers of open_clip and transformers with the same weights, prepared as their authors do."""

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms import functional

import evalkit
from evalkit.cli.model_checks import faults
from evalkit.encoders.clip_names import in_open_clips_names
from evalkit.encoders.preference import ARCHITECTURE, HPSV2, load_hpsv2
from evalkit.errors import MissingWeightsError, UserError
from evalkit.io.image_reader import Pixels
from evalkit.metrics import METRICS
from evalkit.weights.lookup import Weights, find
from tests.evalkit.conftest import picture
from tests.evalkit.transformers_clip import SIDE, load_peer

PROMPT = "a photo of red star"


@pytest.fixture(scope="module")
def hpsv2_folder(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny CLIP as HPSv2 publishes its own: a checkpoint of a training run."""
    folder = tmp_path_factory.mktemp("hpsv2") / "hpsv2"
    shutil.copytree(clip_folder, folder)
    state = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"epoch": 3, "name": "tiny", "state_dict": state}, folder / "HPS_v2_compressed.pt")
    return folder


@pytest.fixture(scope="module")
def pickscore_folder(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny CLIP as PickScore publishes its own: under transformers' names, with counters as older versions had."""
    folder = tmp_path_factory.mktemp("pickscore") / "pickscore"
    shutil.copytree(clip_folder, folder)
    (folder / "open_clip_model.safetensors").unlink()
    state = {name: value.contiguous() for name, value in load_peer(clip_folder)[0].state_dict().items()}
    state["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(state, folder / "model.safetensors")
    return folder


def as_hpsv2_does(image: Image.Image) -> torch.Tensor:
    """Return a picture as HPSv2's own evaluation prepares it, before normalisation: floats, longer side at the model's size."""
    floats = functional.to_tensor(image)
    scale = SIDE / max(image.size)
    height, width = (round(side * scale) for side in floats.shape[1:])
    small = functional.resize(floats, [height, width], functional.InterpolationMode.BICUBIC, antialias=True)
    across, down = SIDE - width, SIDE - height
    return functional.pad(small, [across // 2, down // 2, across - across // 2, down - down // 2])


def test_hpsv2_is_the_cosine_of_open_clips_features_of_what_its_authors_prepare(hpsv2_folder, clip_folder):
    images = [picture(0, (SIDE, SIDE)), picture(1, (200, 120)), picture(2, (90, 130))]
    ours = [row.value for row in evalkit.score(images, ["hpsv2"], prompts=PROMPT, weights={"hpsv2": hpsv2_folder})]
    net, _ = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folder}")([PROMPT])
    batch = torch.stack([as_hpsv2_does(image) for image in images])
    with torch.inference_mode():
        found = net.eval()(functional.normalize(batch, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]), tokens)
        expected = (found[0] @ found[1].T).squeeze(1).tolist()
    assert ours[0] == pytest.approx(expected[0], abs=1e-6)
    # where a picture is shrunk, its authors round to floats and Pillow to 8 bits
    assert ours[1:] == pytest.approx(expected[1:], abs=2e-3)
    assert len({round(value, 3) for value in ours}) == 3


def test_hpsv2_sees_whole_pictures_as_its_authors_prepare_them(hpsv2_folder):
    encoder = load_hpsv2(find(HPSV2, {"hpsv2": hpsv2_folder}), "cpu")
    assert encoder.recipe.preparation == "pil-bicubic-64-pad"
    assert list(faults(encoder)) == []
    smooth = Image.fromarray(np.tile(np.linspace(30, 220, 160, dtype=np.uint8)[None, :, None], (81, 1, 3)))
    given = encoder.prepare(Pixels(smooth)).float()
    assert given.shape == (3, SIDE, SIDE)
    assert float((given - 255 * as_hpsv2_does(smooth)).abs().max()) < 2


def test_pickscore_is_transformers_logit_without_its_temperature(pickscore_folder, clip_folder):
    model, processor = load_peer(clip_folder)
    images = [picture(seed, size) for seed, size in enumerate([(SIDE, SIDE), (200, 120), (90, 130)])]
    ours = [row.value for row in evalkit.score(images, ["pickscore"], prompts=PROMPT, weights={"pickscore": pickscore_folder})]
    inputs = processor(images=images, text=[PROMPT], return_tensors="pt", padding="max_length", truncation=True, max_length=12)
    with torch.inference_mode():
        image, text = model.get_image_features(inputs["pixel_values"]), model.get_text_features(inputs["input_ids"])
        image, text = (each / each.norm(dim=-1, keepdim=True) for each in (image, text))
        scores = (model.logit_scale.exp() * (text @ image.T))[0]
        expected = (scores / model.logit_scale.exp()).tolist()
    assert ours[0] == pytest.approx(expected[0], abs=1e-6)
    # transformers shrinks by torchvision, Pillow differs by a few of 255 levels
    assert ours == pytest.approx(expected, abs=2e-3)


def test_a_clip_under_transformers_names_is_the_same_clip(clip_folder):
    here = load_file(clip_folder / "open_clip_model.safetensors")
    back = in_open_clips_names(load_peer(clip_folder)[0].state_dict())
    assert back.keys() == here.keys()
    assert all(torch.equal(back[name], here[name]) for name in here)
    assert in_open_clips_names(here) is here


def test_a_single_file_means_the_full_architecture_and_another_net_is_refused(tmp_path, pickscore_folder):
    model = METRICS["hpsv2"].load(Weights((tmp_path / "x.pt",), "0" * 64, "test"), "cpu")
    assert (model.recipe.model, model.recipe.preparation, model.size) == (ARCHITECTURE, "pil-bicubic-224-pad", 224)
    state = load_file(pickscore_folder / "model.safetensors")
    del state["text_model.encoder.layers.0.self_attn.v_proj.weight"]
    folder = shutil.copytree(pickscore_folder, tmp_path / "wrong")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: is not open_clip's"):
        evalkit.score([picture(0)], ["pickscore"], prompts=PROMPT, weights={"pickscore": folder})


def test_they_run_only_where_they_are_named_and_say_what_they_are(pickscore_folder):
    assert METRICS["hpsv2"].on_request
    assert METRICS["pickscore"].on_request
    (row,) = evalkit.score([picture(0)], ["pickscore"], prompts=PROMPT, weights={"pickscore": pickscore_folder})
    assert row.signature.startswith("pickscore|open_clip-dir:")
    assert "|pil-bicubic-64-center|fp32|cos|open_clip" in row.signature
    with pytest.raises(MissingWeightsError, match=r"get HPS_v2_compressed\.pt from xswu/HPSv2 on huggingface\.co"):
        evalkit.score([picture(0)], ["hpsv2"], prompts=PROMPT)
