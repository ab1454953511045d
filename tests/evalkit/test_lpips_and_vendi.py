"""LPIPS between arms and over seeds, and the Vendi score of a cell."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import pil_to_tensor

from evalkit.encoders.lpips import BACKBONE, CHANNELS, LPIPS
from evalkit.encoders.quality import replaced
from evalkit.errors import UserError
from evalkit.metric_spec.similarity import vendi
from evalkit.metrics import METRICS
from evalkit.run.import_images import import_images
from evalkit.scoring.run_scorer import score_run
from evalkit.weights.lookup import find
from tests.evalkit.conftest import picture
from tests.evalkit.random_weights import save_lpips


@pytest.fixture(scope="module")
def lpips_folder(tmp_path_factory) -> Path:
    """Return random weights in the two files that LPIPS comes in."""
    folder = save_lpips(tmp_path_factory.mktemp("weights") / "lpips")
    yield folder
    (folder / BACKBONE.rpartition("/")[2]).unlink()  # 240 MB, which pytest would keep for three runs


def test_lpips_is_pyiqas_with_the_same_weights_symmetric_and_0_for_copies(lpips_folder):
    from types import SimpleNamespace

    import pyiqa
    from pyiqa.archs import lpips_arch
    from torchvision.models import alexnet

    def local(weights):
        net = alexnet(weights=None)
        net.load_state_dict(torch.load(lpips_folder / BACKBONE.rpartition("/")[2], weights_only=True))
        return net

    with replaced(lpips_arch, models=SimpleNamespace(alexnet=local)):
        theirs = pyiqa.create_metric("lpips", device="cpu", pretrained_model_path=str(lpips_folder / CHANNELS))
    ours = METRICS["arm_lpips"].load(find(LPIPS, {"lpips": lpips_folder}), "cpu")
    left, right = pil_to_tensor(picture(1)), pil_to_tensor(picture(2))
    direct = float(theirs(left[None].float() / 255, right[None].float() / 255))
    assert ours.compare(left, right) == pytest.approx(direct, rel=1e-6)
    assert ours.compare(right, left) == pytest.approx(direct, rel=1e-6)
    assert ours.compare(left, left) == 0 < direct


def test_a_run_has_lpips_between_arms_and_over_seeds_with_each_pair_computed_once(run, lpips_folder):
    result = score_run(run, ["arm_lpips", "diversity_lpips", "arm_psnr"], weights={"lpips": lpips_folder})
    assert not result.problems
    assert Counter(row.metric for row in result.rows) == {"arm_lpips": 12, "diversity_lpips": 12, "arm_psnr": 12}
    assert result.tally.decodes == 12
    # 2 cases x 2 seeds x 3 pairs of arms, and 2 cases x 3 arms x 1 pair of seeds; pixels only between arms
    assert result.tally.forwards == {"lpips": 18, "arm_psnr": 12}
    assert all(row.value > 0 for row in result.rows)
    assert {"pair", "pair-mean-seeds"} <= {part for row in result.rows for part in row.signature.split("|")}
    assert score_run(run, ["diversity_lpips"], weights={"lpips": lpips_folder}).tally.decodes == 0


def test_lpips_of_copies_over_seeds_is_0(folder, tmp_path, lpips_folder):
    (folder / "both/direct/7.png").write_bytes((folder / "both/direct/0.png").read_bytes())
    import_images(folder, tmp_path / "copies")
    rows = score_run(tmp_path / "copies", ["diversity_lpips"], weights={"lpips": lpips_folder}).rows
    assert [row.value for row in rows if (row.case, row.arm) == ("both", "direct")] == [0, 0]


def test_files_of_something_else_are_refused_by_name(lpips_folder, tmp_path):
    (tmp_path / BACKBONE.rpartition("/")[2]).symlink_to(lpips_folder / BACKBONE.rpartition("/")[2])
    torch.save({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / CHANNELS)
    model = METRICS["arm_lpips"].load(find(LPIPS, {"lpips": tmp_path}), "cpu")
    with pytest.raises(UserError, match=r"df73285e\.pth: is not LPIPS for AlexNet"):
        model.compare(pil_to_tensor(picture(1)), pil_to_tensor(picture(2)))
    (tmp_path / BACKBONE.rpartition("/")[2]).unlink()
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth is missing; lpips needs LPIPS\S+ and"):
        find(LPIPS, {"lpips": tmp_path})


def test_vendi_counts_copies_once_and_orthogonal_vectors_each():
    assert vendi(np.eye(5)[:4]) == pytest.approx(4)
    assert vendi(np.ones((4, 7))) == pytest.approx(1)
    assert vendi(np.eye(5)[[0, 0, 1, 1]]) == pytest.approx(2)
    assert vendi(np.eye(3)[:1]) == pytest.approx(1)


@given(st.integers(2, 6), st.integers(0, 10_000))
def test_vendi_lies_between_1_and_n_and_knows_neither_order_nor_length_nor_copies(count, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 4))
    value = vendi(features)
    assert 1 - 1e-9 <= value <= count + 1e-9
    assert vendi(rng.permutation(features)) == pytest.approx(value)
    assert vendi(features * rng.uniform(0.1, 9, (count, 1))) == pytest.approx(value)
    assert vendi(np.repeat(features, 2, axis=0)) == pytest.approx(value)


def test_every_image_of_a_cell_has_the_vendi_score_of_the_cell(run, folder, tmp_path, weights):
    rows = score_run(run, ["diversity_vendi", "diversity_dino"], weights=weights).rows
    cells = {}
    for row in rows:
        cells.setdefault((row.metric, row.case, row.arm), []).append(row.value)
    for (metric, case, arm), values in cells.items():
        if metric == "diversity_vendi":
            assert len(set(values)) == 1
            # two images: the eigenvalues are (1 ± cosine) / 2
            shares = np.array([1, -1]) * (1 - cells["diversity_dino", case, arm][0]) / 2 + 0.5
            assert values[0] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    for arm in ("direct", "dropout"):
        (folder / f"both/{arm}/7.png").write_bytes((folder / f"both/{arm}/0.png").read_bytes())
    import_images(folder, tmp_path / "copies")
    rows = score_run(tmp_path / "copies", ["diversity_vendi"], weights=weights).rows
    assert [row.value for row in rows if row.case == "both" and row.arm != "orthogonal"] == pytest.approx([1] * 4)
