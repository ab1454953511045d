"""The doctor's probe: right models pass, and every planted fault is found and named."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from evalkit.cli.machine import checked_models
from evalkit.cli.model_checks import faults
from evalkit.encoders import clip as clip_module
from evalkit.encoders import dino as dino_module
from evalkit.metrics import METRICS
from evalkit.weights.lookup import NO_WEIGHTS, Weights, find

MODULES = {"clip": clip_module, "dino": dino_module}
OPENAI_B32 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"


def load(name, weights):
    """Return the model of clip or dino with tiny weights."""
    card = next(card for card in METRICS.values() if card.model == name)
    return card.load(find(card.weights, weights) if card.weights else NO_WEIGHTS, "cpu")


@pytest.mark.parametrize("name", ["clip", "dino", "piqe", "arm_psnr", "entropy"])
def test_a_model_that_does_what_it_says_passes(name, weights):
    assert list(faults(load(name, weights))) == []


@pytest.mark.parametrize("name", ["clip", "dino"])
@pytest.mark.parametrize(("factor", "said"), [(255, "divided by 255 twice"), (1 / 255, "not divided by 255")])
def test_a_wrong_scale_is_found(name, factor, said, weights, monkeypatch):
    right = MODULES[name].normalised

    def wrong(batch, device, mean, std):
        normal = right(batch, device, mean, std)
        zero = right(torch.zeros_like(batch), device, mean, std)
        return zero + (normal - zero) / factor

    monkeypatch.setattr(MODULES[name], "normalised", wrong)
    (fault,) = faults(load(name, weights))
    assert said in fault


@pytest.mark.parametrize("name", ["clip", "dino"])
def test_shrinking_without_antialias_is_found(name, weights, monkeypatch):
    from torchvision.transforms.functional import center_crop, pil_to_tensor

    def rough(image, size, crop):
        small = torch.nn.functional.interpolate(pil_to_tensor(image)[None].float(), size=(size, size), mode="bicubic")
        return center_crop(small[0].round().clamp(0, 255).byte(), [crop, crop])

    monkeypatch.setattr(MODULES[name], "centre_square", rough)
    (fault,) = faults(load(name, weights))
    assert "resized without antialiasing" in fault


def test_another_filter_or_size_is_found(weights, monkeypatch):
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    def bilinear(image, size, crop):
        return pil_to_tensor(image.resize((size, size), Image.Resampling.BILINEAR))

    monkeypatch.setattr(clip_module, "centre_square", bilinear)
    assert "its preprocessing differs" in next(faults(load("clip", weights)))
    monkeypatch.setattr(clip_module, "centre_square", lambda image, size, crop: pil_to_tensor(image.resize((32, 32))))
    assert "is 32 x 32 pixels; pil-bicubic-64-center gives 64 x 64" in next(faults(load("clip", weights)))


def test_gelu_in_place_of_quickgelu_is_found(weights):
    model = load("clip", weights)
    for block in model.net.visual.transformer.resblocks:
        block.mlp.gelu = torch.nn.GELU()
    (fault,) = faults(model)
    assert "its blocks compute GELU, but the configuration of clip states QuickGELU" in fault


def test_openais_weights_under_a_description_without_quickgelu_are_found(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = False
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    file = folder / "open_clip_model.safetensors"
    assert list(faults(METRICS["clip_t"].load(Weights((file,), "0" * 64, "test", folder), "cpu"))) == []
    (fault,) = faults(METRICS["clip_t"].load(Weights((file,), OPENAI_B32, "test", folder), "cpu"))
    assert "these are OpenAI's weights, which were trained with QuickGELU" in fault


def test_the_doctor_examines_what_is_here_and_skips_what_is_not(weights, tmp_path):
    found = dict(checked_models(weights))
    assert found["clip"] == found["dino"] == found["piqe"] == []
    assert "musiq" not in found
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    ((fault,),) = [said for name, said in checked_models({"musiq": tmp_path / "bad.pth"}) if name == "musiq"]
    assert "bad.pth: can't be read as weights" in fault


def test_a_model_whose_package_is_absent_is_named_and_no_fault():
    # what `import pyiqa` finds in an environment without it
    script = "import sys; sys.modules['pyiqa'] = None; from evalkit.cli.main import main; sys.argv[1:] = ['doctor']; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "piqe: not checked, since its package is not installed; run: pip install 'lora-evalkit[metrics]'" in done.stdout


def test_the_doctor_and_the_list_of_weights_know_every_model_that_score_takes(dino_folder):
    from typer.testing import CliRunner

    from evalkit.cli.machine import weights_found
    from evalkit.cli.weights import app
    from evalkit.metrics.models import known_sources

    shown = {name: state for name, state, _ in weights_found({"dino_s8": dino_folder})}
    assert shown.keys() == known_sources().keys() >= {"clip", "dino_s8", "inception", "vae"}
    assert shown["dino_s8"] == "given as dino_s8"
    listed = CliRunner().invoke(app, ["list", "--metrics", "dino_s8,fid"], catch_exceptions=False).stdout
    # a line of its own, so that an address is never cut
    assert "missing: inception: not in the hub's cache; get https://github.com/toshas/torch-fidelity/releases/" in listed
    assert listed.startswith("dino_s8: model.safetensors of timm/vit_small_patch8_224.dino\ninception: https://github.com/")
    assert "missing: dino_s8" in listed
    wrong = CliRunner().invoke(app, ["list", "--metrics", "dino_s9"])
    assert "--metrics: no metric or model 'dino_s9'; did you mean 'dino_s8'? Known: clip" in str(wrong.exception)
