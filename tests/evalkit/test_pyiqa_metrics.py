"""Metrics of pyiqa beside the five nets: each is pyiqa's own number, from local files alone."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

import evalkit
from evalkit.errors import MissingWeightsError, UserError
from tests.evalkit.conftest import picture
from tests.evalkit.random_weights import save_brisque, save_niqe

IMAGES = [picture(seed, (256, 208)) for seed in range(3)]


def theirs(name: str, images, **options) -> list[float]:
    """Return pyiqa's own scores, one picture at a time."""
    import pyiqa

    metric = pyiqa.create_metric(name, device="cpu", **options)
    return [float(metric(pil_to_tensor(image)[None].float() / 255)) for image in images]


def ours(name: str, images, **options) -> list[float]:
    """Return evalkit's scores."""
    return [row.value for row in evalkit.score(images, [name], **options)]


@pytest.fixture
def niqe_file(tmp_path: Path) -> Path:
    """Return random parameters in the format of NIQE's."""
    return save_niqe(tmp_path / "niqe.mat")


@pytest.fixture
def brisque_file(tmp_path: Path) -> Path:
    """Return random support vectors in the format of BRISQUE's."""
    return save_brisque(tmp_path / "brisque.pth")


def test_entropy_is_pyiqas_to_the_bit():
    assert ours("entropy", IMAGES) == theirs("entropy", IMAGES)


def test_entropy_of_one_tone_is_0_and_of_all_alike_8():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)[None]
    flat, full = ours("entropy", [Image.new("RGB", (40, 30), (9, 9, 9)), Image.fromarray(ramp)])
    assert flat == pytest.approx(0, abs=1e-6)
    assert full == pytest.approx(8, abs=1e-5)


def test_niqe_is_pyiqas_with_the_same_parameters(niqe_file, monkeypatch):
    direct = theirs("niqe", IMAGES, pretrained_model_path=str(niqe_file))
    assert ours("niqe", IMAGES, weights={"niqe": niqe_file}) == pytest.approx(direct, rel=1e-5)
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(niqe_file.parent))
    assert ours("niqe", IMAGES) == pytest.approx(direct, rel=1e-5)


def test_brisque_is_pyiqas_with_the_same_parameters(brisque_file):
    direct = theirs("brisque", IMAGES, pretrained_model_path=str(brisque_file))
    assert ours("brisque", IMAGES, weights={"brisque": brisque_file}) == pytest.approx(direct, rel=1e-5)


@pytest.mark.parametrize("name", ["niqe", "brisque"])
def test_a_file_of_something_else_is_refused_by_name(name, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(torch.zeros(3, 4), path)
    with pytest.raises(UserError, match=rf"other\.pth: are not {name.upper()}'s"):
        evalkit.score(IMAGES[:1], [name], weights={name: path})


def test_brisques_file_can_run_no_code(tmp_path):
    torch.save((Path("evil"), torch.zeros(1, 36)), tmp_path / "evil.pth")
    with pytest.raises(UserError, match="are not BRISQUE's"):
        evalkit.score(IMAGES[:1], ["brisque"], weights={"brisque": tmp_path / "evil.pth"})


def test_any_other_metric_of_pyiqa_has_its_direction_and_hash(tmp_path, monkeypatch, niqe_file):
    """`niqe_matlab` stands for all: its parameters are put where pyiqa looks for them."""
    from pyiqa.utils import download_util

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path))
    niqe_file.rename(tmp_path / "niqe_matlab_params.mat")
    rows = evalkit.score(IMAGES, ["iqa:niqe_matlab"])
    assert [row.value for row in rows] == pytest.approx(theirs("niqe_matlab", IMAGES), rel=1e-5)
    assert {row.direction for row in rows} == {"lower"}
    assert rows[0].signature.startswith("iqa:niqe_matlab|pyiqa:niqe_matlab|sha:")
    rng = np.random.default_rng(1)
    scipy.io.savemat(tmp_path / "niqe_matlab_params.mat", {"mu_prisparam": rng.normal(size=36), "cov_prisparam": np.eye(36)})
    assert evalkit.score(IMAGES[:1], ["iqa:niqe_matlab"])[0].signature != rows[0].signature


def test_without_its_file_and_offline_a_metric_of_pyiqa_says_which(tmp_path, monkeypatch):
    from pyiqa.utils import download_util

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(MissingWeightsError, match=r"HF_HUB_OFFLINE is set, and CNNIQA\S+ is not in .*; get it from https://"):
        evalkit.score(IMAGES[:1], ["iqa:cnniqa"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "iqa:topiq_nrr",
            r"pyiqa has no no-reference metric 'iqa:topiq_nrr'; did you mean 'iqa:topiq_nr'\? Known: .*iqa:clipiqa,",
        ),
        ("iqa:lpips", "pyiqa has no no-reference metric"),
        ("iqa:fid", "pyiqa has no no-reference metric"),
        ("iqa:clipscore", "pyiqa has no no-reference metric"),
        ("iqa:musiq", "is called 'musiq' here, without 'iqa:'"),
    ],
)
def test_what_is_no_other_no_reference_metric_gets_one_line(name, said):
    with pytest.raises(UserError, match=said) as caught:
        evalkit.score(IMAGES[:1], [name])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=said):
        evalkit.metric(name)


def test_a_picture_that_pyiqa_cant_score_is_said_in_one_line(monkeypatch, niqe_file):
    from pyiqa.utils import download_util

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(niqe_file.parent))
    niqe_file.rename(niqe_file.with_name("niqe_matlab_params.mat"))
    with pytest.raises(UserError, match="iqa:niqe_matlab"):
        evalkit.score([picture(1, (64, 64))], ["iqa:niqe_matlab"])
