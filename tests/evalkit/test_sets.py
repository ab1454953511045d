"""Metrics of sets: equal to the libraries they run on, with known answers where there are some."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import pil_to_tensor
from typer.testing import CliRunner

from evalkit.cli.main import build
from evalkit.encoders.clip import load_clip_l
from evalkit.encoders.vae import load_vae
from evalkit.errors import UserError
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.histograms import density, kullback_leibler
from evalkit.run.feature_cache import MemoryFeatureStore
from evalkit.scoring.set_scorer import score_sets
from evalkit.set_metrics import SET_METRICS
from evalkit.weights.lookup import find
from tests.evalkit.conftest import picture

VAE_CONFIG = {
    "_class_name": "AutoencoderKL",
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 8],
    "norm_num_groups": 4,
    "latent_channels": 3,
    "scaling_factor": 2.5,
}


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return torch-fidelity's Inception v3 with random weights, as its file holds it.

    They are large enough that features differ from picture to picture; those it starts with leave 1e-8 of them.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: None)
        net = theirs.FeatureExtractorInceptionV3("random", ["2048"])
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny autoencoder as diffusers saves it."""
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("vae")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoencoderKL.from_config(VAE_CONFIG).save_pretrained(folder)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Return two sets of pictures, the second rougher."""
    paths = []
    for name, start in (("one", 0), ("other", 100)):
        (tmp_path / name).mkdir()
        paths.append([tmp_path / name / f"{index}.png" for index in range(4)])
        for index, path in enumerate(paths[-1]):
            picture(start + index, (72, 64) if start else (64, 64)).save(path)
    return paths[0], paths[1]


@pytest.fixture
def given_weights(inception_file, vae_folder, clip_folder):
    return {"inception": inception_file, "vae": vae_folder, "clip_l": clip_folder}


def values(sets, others, metrics, weights, **options):
    """Return the value of each set and metric."""
    scored = score_sets(sets, others, metrics, MemoryFeatureStore(), weights=weights, **options)
    assert not scored.problems
    return {(row.set, row.metric): row.value for row in scored.rows}


def test_fid_and_kid_are_torch_fidelitys_own(folders, inception_file, tmp_path):
    """The peer reads files and pictures itself; only the subsets, larger than these sets, are made as small for it."""
    import torch_fidelity

    one, other = folders
    theirs = torch_fidelity.calculate_metrics(
        input1=str(one[0].parent), input2=str(other[0].parent), fid=True, kid=True, kid_subset_size=4, cuda=False,
        feature_extractor_weights_path=str(inception_file), batch_size=1, cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    ours = values({"one": one}, other, ["fid", "kid"], {"inception": inception_file})
    assert ours["one", "fid"] > 0.1
    assert abs(ours["one", "kid"]) > 1e-6
    assert ours["one", "fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4, abs=1e-6)
    assert ours["one", "kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4, abs=1e-8)


def test_cmmd_is_the_published_formula_over_our_features(folders, clip_folder):
    one, other = folders
    encoder = load_clip_l(find(SET_METRICS["cmmd"].weights, {"clip_l": clip_folder}), "cpu")

    def features(paths):
        found = encoder.features(torch.stack([encoder.prepare(Pixels(Image.open(path))) for path in paths]))
        return torch.nn.functional.normalize(torch.from_numpy(found).double(), dim=1)

    def likeness(left, right):
        return torch.exp(-(torch.cdist(left, right) ** 2) / 200).mean()

    x, y = features(one), features(other)
    expected = 1000 * float(likeness(x, x) + likeness(y, y) - 2 * likeness(x, y))
    assert values({"one": one}, other, ["cmmd"], {"clip_l": clip_folder})["one", "cmmd"] == pytest.approx(expected, abs=1e-6)


def test_cmmd_is_torch_fidelitys_biased_discrepancy():
    from torch_fidelity.metric_kid import kernel_rbf, mmd2

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5)), rng.normal(1, 1, size=(7, 5))
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y)]
    kernels = [kernel_rbf(left, right, kid_kernel_rbf_sigma=10) for left, right in (unit[:1] * 2, unit, unit[1:] * 2)]
    assert SET_METRICS["cmmd"].distance(x, y) == pytest.approx(1000 * mmd2(*kernels, mmd_est="biased"), rel=1e-9)


def test_a_latent_kl_is_the_sum_over_literal_histograms(folders, vae_folder):
    from diffusers import AutoencoderKL

    net = AutoencoderKL.from_pretrained(vae_folder)
    pooled = []
    for paths in folders:
        found = []
        for path in paths:
            pixels = pil_to_tensor(Image.open(path))[None].float() / 255 * 2 - 1
            with torch.no_grad():
                found.append((net.encode(pixels).latent_dist.mode() * 2.5).flatten())
        latents = torch.cat(found).numpy()
        counts = [(latents < -5).sum(), *np.histogram(latents, 200, (-5, 5))[0], (latents > 5).sum()]
        shares = np.array(counts) / sum(counts) + 1e-6
        pooled.append(shares / shares.sum())
    p, q = pooled
    one, other = folders
    ours = values({"one": one}, other, ["latent_kl"], {"vae": vae_folder})["one", "latent_kl"]
    # the two ways to [-1, 1] differ in the last bit, which puts a few values into the next bin
    assert ours == pytest.approx(float((p * np.log(p / q)).sum()), rel=3e-3)
    assert ours > 0


def test_a_set_is_nowhere_from_itself_but_for_what_kid_corrects(folders, given_weights):
    one, _ = folders
    found = values({"one": one}, one, ["kid", "cmmd", "latent_kl"], given_weights)
    assert found["one", "cmmd"] == pytest.approx(0, abs=1e-9)
    assert found["one", "latent_kl"] == 0
    assert -1e-2 < found["one", "kid"] < 0


def test_order_batch_size_and_cache_change_nothing(folders, given_weights):
    one, other = folders
    forward = values({"one": one}, other, ["kid", "cmmd", "latent_kl"], given_weights)
    backward = values({"one": one[::-1]}, other[::-1], ["kid", "cmmd", "latent_kl"], given_weights, batch_size=1)
    assert backward == pytest.approx(forward, rel=1e-4, abs=1e-6)
    store = MemoryFeatureStore()
    cold = score_sets({"one": one}, other, ["cmmd"], store, weights=given_weights)
    warm = score_sets({"one": one}, other, ["cmmd"], store, weights=given_weights)
    assert warm.rows == cold.rows
    assert sum(warm.tally.forwards.values()) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
def test_distances_are_symmetric_never_below_0_and_0_for_copies(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(m, 4)).astype(np.float32)
    cmmd = SET_METRICS["cmmd"].distance
    assert cmmd(x, y) == pytest.approx(cmmd(y, x), abs=1e-9)
    assert cmmd(x, y) > -1e-9
    assert cmmd(x, np.concatenate([x, x])) == pytest.approx(0, abs=1e-9)
    p, q = density(rng.integers(0, 50, 202) + 1.0), density(rng.integers(0, 50, 202) + 1.0)
    assert kullback_leibler(p, q) > 0
    assert kullback_leibler(p, p) == 0


def test_fid_of_two_normal_distributions_is_their_frechet_distance():
    """Between covariances diag(1, 1, 1) and diag(1, 4, 1) it is (2 - 1)^2, beside the squared shift of the means."""
    rng = np.random.default_rng(0)
    shift, scale = np.array([2.0, 0, 0]), np.array([1.0, 2.0, 1.0])
    x, y = rng.normal(size=(40_000, 3)), rng.normal(size=(40_000, 3)) * scale + shift
    assert SET_METRICS["fid"].distance(x, y) == pytest.approx(4 + 1, rel=0.03)
    assert SET_METRICS["fid"].distance(x, x) == pytest.approx(0, abs=1e-6)


def test_a_latent_kl_of_two_normal_distributions_is_the_closed_form():
    from evalkit.metric_spec.histograms import binned

    rng = np.random.default_rng(0)
    one, other = rng.normal(0.5, 1, (1, 1000, 1000)), rng.normal(0, 1, (1, 1000, 1000))
    counts = [binned(latents).reshape(1, -1).astype(np.float32) for latents in (one, other)]
    assert SET_METRICS["latent_kl"].distance(*counts) == pytest.approx(0.5**2 / 2, rel=0.02)


def test_a_run_is_compared_arm_by_arm_with_its_references(run, given_weights):
    options = [f"--weights={name}={path}" for name, path in given_weights.items()]
    done = CliRunner().invoke(build(), ["sets", str(run), "--metrics", "kid,cmmd", "--json", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [(row["metric"], row["set"]) for row in document["scores"]] == [
        (metric, arm) for metric in ("kid", "cmmd") for arm in ("direct", "dropout", "orthogonal")
    ]
    assert {(row["images"], row["others"], row["direction"]) for row in document["scores"]} == {(4, 3, "lower")}
    assert "kid of direct: 4 images against 3, which is few; with fewer than 1,000" in document["notes"][0]
    assert (run / "set_scores.parquet").is_file()
    shown = CliRunner().invoke(build(), ["sets", str(run), "--metrics", "cmmd", *options], catch_exceptions=False)
    assert "cmmd|open_clip-dir:" in shown.stdout
    assert "torch-fidelity" in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metrics", "fidd"], r"no metric of sets 'fidd'; did you mean 'fid'\? Known: fid, kid, cmmd, latent_kl"),
        (["--metrics", "fid"], r"there is no second set to compare with; give --against FOLDER"),
        (["--metrics", "cmmd", "--against", "HERE/one"], "1 image against 1; both need two at least"),
    ],
)
def test_what_cant_be_compared_gets_one_line(words, said, tmp_path, given_weights):
    (tmp_path / "one").mkdir()
    picture(1).save(tmp_path / "one/a.png")
    weights = [f"--weights={name}={path}" for name, path in given_weights.items()]
    against = [] if "--against" in words or "fid" in words else ["--against", str(tmp_path / "one")]
    asked = [word.replace("HERE", str(tmp_path)) for word in (*words, *against)]
    result = CliRunner().invoke(build(), ["sets", str(tmp_path / "one"), *asked, *weights])
    assert isinstance(result.exception, UserError)
    assert re.search(said, str(result.exception))


def test_without_weights_each_metric_says_how_to_get_them(folders):
    one, other = folders
    scored = score_sets({"one": one}, other, ["fid", "cmmd"], MemoryFeatureStore())
    assert scored.not_run == ("fid", "cmmd")
    assert "get https://github.com/toshas/torch-fidelity" in scored.missing["inception"]
    assert "--weights inception=FILE" in scored.missing["inception"]


def test_weights_of_another_net_are_refused(folders, vae_folder, tmp_path):
    one, other = folders
    save_file({"weight": torch.zeros(3)}, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=r"wrong\.safetensors: is not torch-fidelity's Inception v3"):
        values({"one": one}, other, ["fid"], {"inception": tmp_path / "wrong.safetensors"})
    with pytest.raises(UserError, match=r"wrong\.safetensors: is not diffusers' vae-sdxl"):
        values({"one": one}, other, ["latent_kl"], {"vae": tmp_path / "wrong.safetensors"})
    torch.save({"weight": Path("evil")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="can't be read as weights"):
        values({"one": one}, other, ["fid"], {"inception": tmp_path / "evil.pth"})


def test_a_picture_is_cut_to_what_the_autoencoder_reads(vae_folder):
    model = load_vae(find(SET_METRICS["latent_kl"].weights, {"vae": vae_folder}), "cpu")
    assert model.prepare(Pixels(picture(1, (65, 33)))).shape == (3, 32, 64)
    assert model.features(model.prepare(Pixels(picture(1, (64, 32))))[None]).sum() == 3 * 32 * 16
