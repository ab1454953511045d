"""A scorer: models are built once, every kind of image gives the same scores, and rows know their image."""

import io

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

import evalkit
from evalkit.errors import MissingWeightsError, UserError
from evalkit.scoring import scorer as module
from tests.evalkit.conftest import picture

IMAGES = [picture(seed) for seed in range(3)]


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def values(scores):
    return [(row.metric, row.value) for row in scores]


def test_models_are_built_once_for_any_number_of_calls(weights, monkeypatch):
    loads = []
    load = module.load_models
    monkeypatch.setattr(module, "load_models", lambda *arguments: loads.append(1) or load(*arguments))
    with evalkit.Scorer(["clip_t", "piqe"], weights=weights, device="cpu") as scorer:
        first = scorer(IMAGES, prompts="a red star")
        second = scorer(IMAGES, prompts="a red star")
        assert (
            values(first)
            == values(second)
            == values(evalkit.score(IMAGES, ["clip_t", "piqe"], prompts="a red star", weights=weights, device="cpu"))
        )
        assert scorer.signatures == {row.metric: row.signature for row in first}
    assert len(loads) == 2  # of the scorer, and of evalkit.score
    with pytest.raises(UserError, match="this scorer is closed"):
        scorer(IMAGES, prompts="a")


@pytest.mark.parametrize(
    "images",
    [
        iter(IMAGES),
        [png(image) for image in IMAGES],
        [{"image": image, "label": 1} for image in IMAGES],
        np.stack([np.asarray(image) for image in IMAGES]),
        DataLoader(torch.stack([pil_to_tensor(image) for image in IMAGES]), batch_size=2),
        [np.dstack([np.asarray(image), np.full(np.asarray(image).shape[:2], 255, np.uint8)]) for image in IMAGES],
    ],
    ids=["iterator", "bytes", "dictionaries", "array", "DataLoader", "RGBA"],
)
def test_every_kind_of_image_gives_the_same_scores(images):
    scorer = evalkit.Scorer(["piqe", "entropy"])
    assert values(scorer(images)) == values(scorer(IMAGES))


def test_greyscale_arrays_score_as_three_equal_channels():
    grey = np.asarray(IMAGES[0].convert("L"))
    scorer = evalkit.Scorer(["entropy"])
    assert values(scorer([grey, grey[..., None]])) == values(scorer([np.dstack([grey] * 3)] * 2))
    assert values(scorer([torch.from_numpy(grey.copy())[None]])) == values(scorer([grey]))


def test_rows_know_the_index_of_their_image_and_become_tables():
    scores = evalkit.Scorer(["piqe", "entropy"])(IMAGES)
    frame = scores.to_pandas()
    assert frame["index"].tolist() == [0, 0, 1, 1, 2, 2]
    assert scores.to_arrow().column("value").to_pylist() == frame["value"].tolist() == [row.value for row in scores]


def test_a_stream_of_any_length_gives_the_rows_of_one_call(monkeypatch):
    monkeypatch.setattr(module, "STREAM", 2)
    scorer = evalkit.Scorer(["piqe"])
    assert [row.value for row in scorer.stream(iter(IMAGES))] == [row.value for row in scorer(IMAGES)]


def test_a_cache_file_keeps_features_between_scorers(tmp_path):
    with evalkit.Scorer(["piqe"], cache=tmp_path / "cache.sqlite") as one:
        first = one(IMAGES)
    with evalkit.Scorer(["piqe"], cache=tmp_path / "cache.sqlite") as other:
        assert values(other(IMAGES)) == values(first)


def test_arguments_are_checked_before_weights():
    with pytest.raises(UserError, match="give prompts="):
        evalkit.Scorer(["clip_t"])(IMAGES)
    with pytest.raises(MissingWeightsError):
        evalkit.Scorer(["clip_t"])(IMAGES, prompts="a")
    with pytest.raises(UserError, match="on_error='stop': give 'raise' or 'skip'"):
        evalkit.Scorer(["piqe"])(IMAGES, on_error="stop")
    with pytest.raises(UserError, match="compares two arms of a run"):
        evalkit.Scorer(["arm_dino"])
