"""Metrics between images of a run: two arms at one case and seed, and one arm over its seeds."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from evalkit.metric_spec.similarity import cosine_matrix, distance_to_others
from evalkit.metrics import METRICS
from evalkit.run.feature_cache import MemoryFeatureStore
from evalkit.run.import_images import import_images
from evalkit.run.manifest import Manifest
from evalkit.scoring.pixel_pairs import PairMatcher, pair_key, partners
from evalkit.scoring.run_scorer import default_metrics, score_run
from evalkit.weights.lookup import NO_WEIGHTS
from tests.evalkit.conftest import picture

PIXELS = ["arm_psnr", "arm_ssim"]


def measure(name: str, left: Image.Image, right: Image.Image) -> float:
    """Return a pixel metric of two pictures."""
    return METRICS[name].load(NO_WEIGHTS, "cpu").compare(pil_to_tensor(left), pil_to_tensor(right))


def test_pixel_metrics_are_pyiqas_own_and_symmetric():
    import pyiqa

    left, right = picture(1), picture(2)
    tensors = [pil_to_tensor(image)[None].float() / 255 for image in (left, right)]
    for name in PIXELS:
        theirs = float(pyiqa.create_metric(name.removeprefix("arm_"), device="cpu")(*tensors))
        assert measure(name, left, right) == pytest.approx(theirs, rel=1e-5)
        assert measure(name, left, right) == measure(name, right, left)


def test_pixel_metrics_fall_with_noise_and_equal_images_are_1_or_without_bound():
    image = np.asarray(picture(1)).astype(int)
    rng = np.random.default_rng(0)
    noisy = [
        Image.fromarray(np.clip(image + rng.integers(-step, step + 1, image.shape), 0, 255).astype(np.uint8))
        for step in (2, 10, 40)
    ]
    for name in PIXELS:
        values = [measure(name, picture(1), other) for other in noisy]
        assert values == sorted(values, reverse=True)
    assert measure("arm_psnr", picture(1), picture(1)) == math.inf
    assert measure("arm_ssim", picture(1), picture(1)) == pytest.approx(1, abs=1e-6)


def test_a_run_has_a_row_for_each_pair_of_arms_and_each_picture_is_still_decoded_once(run, weights):
    result = score_run(run, [*PIXELS, "arm_dino", "arm_similarity", "piqe"], weights=weights)
    assert not result.problems
    assert Counter(row.metric for row in result.rows) == {
        **dict.fromkeys((*PIXELS, "arm_dino", "arm_similarity"), 12),
        "piqe": 12,
    }
    assert result.tally.decodes == 12
    assert result.tally.forwards["arm_psnr"] == 12
    warm = score_run(run, PIXELS)
    assert warm.tally.decodes == 0
    assert [row for row in warm.rows if row.metric in PIXELS] == [row for row in result.rows if row.metric in PIXELS]
    images = {image.cell: run / image.path for image in Manifest.load(run).images}
    row = next(row for row in result.rows if row.metric == "arm_psnr")
    left, right = (Image.open(images[row.case, arm, row.seed]) for arm in (row.arm, row.other_arm))
    assert row.value == pytest.approx(measure("arm_psnr", left, right), rel=1e-6)


def test_equal_images_have_no_psnr_and_it_is_said(folder, tmp_path):
    (folder / "both/dropout/7.png").write_bytes((folder / "both/direct/7.png").read_bytes())
    import_images(folder, tmp_path / "same")
    result = score_run(tmp_path / "same", PIXELS)
    assert not result.problems
    assert Counter(row.metric for row in result.rows) == {"arm_psnr": 11, "arm_ssim": 12}
    (note,) = [note for note in result.notes if "infinite" in note]
    assert note.startswith("arm_psnr: both, seed 7: direct and dropout")
    assert score_run(tmp_path / "same", PIXELS).tally.decodes == 0


def test_images_of_two_sizes_cost_their_pairs_and_are_named(folder, tmp_path):
    picture(3, (64, 72)).save(folder / "both/dropout/7.png")
    import_images(folder, tmp_path / "sizes")
    result = score_run(tmp_path / "sizes", ["arm_psnr"])
    assert len(result.rows) == 10
    assert all("needs two images of one size" in problem.reason for problem in result.problems)


def test_a_corrupt_image_costs_its_pairs_only(run):
    (run / "images/both/dropout/7.png").write_bytes(b"x")
    result = score_run(run, ["arm_psnr"])
    assert len(result.rows) == 10
    assert len(result.problems) == 1


def test_nobody_waits_longer_than_for_the_last_partner():
    store, encoder = MemoryFeatureStore(), METRICS["arm_psnr"].load(NO_WEIGHTS, "cpu")
    pairing = PairMatcher("arm_psnr", encoder, store)
    known = partners([("a", "b"), ("b", "c"), ("a", "c"), ("d", "e"), ("f", "f")])
    pairing.lose("e", known["e"])
    for number, key in enumerate("dacbf"):
        pairing.add(key, pil_to_tensor(picture(number)), known[key])
        assert "d" not in pairing.waiting
    assert not pairing.waiting
    assert set(store.get(encoder.recipe.key, [pair_key(*pair) for pair in ("ab", "bc", "ca", "de", "ff")])) == {
        "a~b", "b~c", "a~c", "f~f",
    }  # fmt: skip


def test_what_costs_much_or_is_no_papers_metric_runs_only_when_named(run):
    names = {card.name for card in default_metrics(Manifest.load(run))}
    assert {"arm_dino", "diversity_clip", "diversity_dino"} <= names
    assert not names & {*PIXELS, "niqe", "brisque", "entropy"}


def test_diversity_is_the_mean_distance_to_the_other_seeds_and_its_mean_that_over_pairs(run, weights):
    rows = score_run(run, ["diversity_clip", "diversity_dino"], weights=weights).rows
    assert Counter(row.metric for row in rows) == {"diversity_clip": 12, "diversity_dino": 12}
    # two seeds: either is as far from the other
    for metric in ("diversity_clip", "diversity_dino"):
        cells = {}
        for row in rows:
            if row.metric == metric:
                cells.setdefault((row.case, row.arm), []).append(row.value)
        assert all(len(values) == 2 and values[0] == pytest.approx(values[1], abs=1e-12) for values in cells.values())
    features = np.random.default_rng(1).normal(size=(5, 8))
    pairs = cosine_matrix(features, features)[np.triu_indices(5, 1)]
    assert distance_to_others(features).mean() == pytest.approx(1 - pairs.mean(), abs=1e-12)
    assert np.allclose(distance_to_others(np.repeat(features[:1], 3, axis=0)), 0, atol=1e-12)


def test_copies_have_no_diversity_and_one_seed_has_none_to_speak_of(folder, tmp_path, weights):
    for case in ("both", "alone"):
        (folder / case / "direct/7.png").write_bytes((folder / case / "direct/0.png").read_bytes())
    import_images(folder, tmp_path / "copies")
    rows = score_run(tmp_path / "copies", ["diversity_clip"], weights=weights).rows
    assert [row.value for row in rows if row.arm == "direct"] == pytest.approx([0] * 4, abs=1e-12)
    for path in folder.glob("*/*/7.png"):
        path.unlink()
    import_images(folder, tmp_path / "one")
    assert not any("diversity" in card.name for card in default_metrics(Manifest.load(tmp_path / "one")))
