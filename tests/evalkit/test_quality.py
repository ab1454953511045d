"""pyiqa's nets from local files alone: the same numbers as pyiqa itself with the same weights."""

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.functional import pil_to_tensor

import evalkit
from evalkit.encoders.quality import replaced
from evalkit.errors import MissingWeightsError, UserError
from evalkit.metrics import METRICS
from evalkit.weights.lookup import NO_WEIGHTS
from tests.evalkit.conftest import picture
from tests.evalkit.random_weights import save_arniqa, save_random

# TReS sends 50 crops of every image through a ResNet-50
NAMES = [("musiq", 2), ("nima", 2), ("dbcnn", 2), pytest.param("tres", 1, marks=pytest.mark.slow)]


def stock(name: str, path: Path):
    """Return pyiqa's own metric with these weights; only the backbones it would fetch and overwrite are left out."""
    import pyiqa
    import timm
    import torchvision
    from pyiqa.archs import dbcnn_arch, nima_arch, tres_arch

    def backbone(make):
        return lambda weights: make(weights=None)

    def timm_model(name, pretrained, features_only):
        return timm.create_model(name, features_only=features_only)

    load = dbcnn_arch.load_pretrained_network
    vgg = SimpleNamespace(models=SimpleNamespace(vgg16=backbone(torchvision.models.vgg16)))
    with (
        replaced(nima_arch, timm=SimpleNamespace(create_model=timm_model)),
        replaced(tres_arch, models=SimpleNamespace(resnet50=backbone(torchvision.models.resnet50))),
        replaced(
            dbcnn_arch,
            torchvision=vgg,
            load_pretrained_network=lambda net, place, *rest: load(net, place, *rest) if place == str(path) else None,
        ),
    ):
        return pyiqa.create_metric(name, device="cpu", pretrained_model_path=str(path))


def as_tensor(image: Image.Image) -> torch.Tensor:
    """Return a picture as pyiqa wants it: float 1 x 3 x H x W in [0, 1]."""
    return pil_to_tensor(image)[None].float() / 255


@pytest.mark.parametrize(("name", "count"), NAMES)
def test_a_net_from_a_local_file_gives_pyiqas_own_numbers(name, count, tmp_path):
    path = save_random(name, tmp_path)
    images = [picture(seed, (256, 226)) for seed in range(count)]
    ours = [row.value for row in evalkit.score(images, [name], weights={name: path})]
    theirs = stock(name, path)
    path.unlink()  # up to 600 MB, which pytest would keep for three runs
    direct = [float(theirs(as_tensor(image))) for image in images]
    assert ours == pytest.approx(direct, rel=1e-5, abs=1e-6)
    assert len(set(ours)) == count


def test_tres_without_its_second_pass_is_pyiqas_to_the_bit():
    from pyiqa.archs.tres_arch import TReS

    net = METRICS["tres"].load(NO_WEIGHTS, "cpu")._build().eval()
    net.test_sample = 2
    passes = []
    net.model.conv1.register_forward_hook(lambda *_: passes.append(1))
    pictures = torch.cat([as_tensor(picture(seed, (256, 240))) for seed in range(2)])
    with torch.inference_mode():
        ours = net(pictures)
        assert len(passes) == 1
        assert torch.equal(ours, TReS.forward(net, pictures))
    assert len(passes) == 3
    assert ours.shape == (2, 1)


@pytest.fixture
def arniqa_folder(tmp_path):
    """Return a folder with a random ARNIQA encoder and regressor."""
    return save_arniqa(tmp_path / "arniqa")


def test_arniqa_from_its_two_files_gives_pyiqas_own_numbers(arniqa_folder, tmp_path, monkeypatch):
    """pyiqa finds them, and a backbone that they overwrite, where it would have downloaded them to."""
    import pyiqa
    from pyiqa.utils import download_util
    from torchvision.models import ResNet50_Weights, resnet50

    images = [picture(seed, (128, 96)) for seed in range(2)]
    ours = [row.value for row in evalkit.score(images, ["arniqa"], weights={"arniqa": arniqa_folder})]
    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(arniqa_folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    kept = tmp_path / "torch/hub/checkpoints"
    kept.mkdir(parents=True)
    shutil.copy(arniqa_folder / "ARNIQA.pth", kept)
    torch.save(resnet50(weights=None).state_dict(), kept / ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", FutureWarning)
        theirs = pyiqa.create_metric("arniqa", device="cpu")
    assert ours == pytest.approx([float(theirs(as_tensor(image))) for image in images], abs=1e-6)
    assert ours[0] != ours[1]


def test_arniqa_needs_both_files_and_says_which_lacks(arniqa_folder):
    (arniqa_folder / "regressor_koniq10k.pth").unlink()
    with pytest.raises(UserError, match=r"regressor_koniq10k\.pth is missing"):
        evalkit.score([picture(1)], ["arniqa"], weights={"arniqa": arniqa_folder})


@pytest.mark.parametrize("name", ["musiq", "arniqa", "nima", "tres", "dbcnn"])
def test_without_weights_a_net_says_how_to_get_them(name):
    with pytest.raises(MissingWeightsError, match=rf"chaofengc/IQA-PyTorch-Weights on huggingface\.co.*--weights {name}="):
        evalkit.score([picture(1)], [name])


def test_weights_of_another_net_are_refused(tmp_path):
    path = tmp_path / "wrong.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"wrong\.pth: is not pyiqa's musiq-koniq10k: Missing key"):
        evalkit.score([picture(1)], ["musiq"], weights={"musiq": path})


def test_a_checkpoint_can_run_no_code(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"params": Path("evil")}, path)
    with pytest.raises(UserError, match="can't be read as weights"):
        evalkit.score([picture(1)], ["musiq"], weights={"musiq": path})


def test_piqe_is_pyiqas_and_rises_with_noise_and_blocks():
    import pyiqa

    image = picture(3, (160, 160)).filter(ImageFilter.GaussianBlur(1))
    noisy = np.asarray(image).astype(float) + np.random.default_rng(0).normal(0, 25, (160, 160, 3))
    small = image.resize((20, 20)).resize((160, 160), Image.Resampling.NEAREST)
    versions = [image, Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), small]
    clean, noise, blocks = (row.value for row in evalkit.score(versions, ["piqe"]))
    assert clean < noise
    assert clean < blocks
    direct = pyiqa.create_metric("piqe", device="cpu")(as_tensor(image))
    assert clean == pytest.approx(float(direct), abs=1e-5)


def test_piqe_of_different_sizes_at_once_is_piqe_of_each():
    images = [picture(1, (64, 80)), picture(2, (96, 64)), picture(3, (64, 80))]
    together = [row.value for row in evalkit.score(images, ["piqe"])]
    alone = [evalkit.score([image], ["piqe"])[0].value for image in images]
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_picture_without_a_score_is_named_not_scored():
    with pytest.raises(UserError, match=r"images\[0\]: piqe gives no finite number"):
        evalkit.score([Image.new("RGB", (64, 64))], ["piqe"])
    with pytest.raises(UserError, match="20 x 20 pixels are too few"):
        evalkit.score([Image.new("RGB", (20, 20), "white")], ["piqe"])
