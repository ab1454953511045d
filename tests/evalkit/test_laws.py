"""Laws of the metrics: what must leave a score alone, and what must make it worse."""

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms.functional import pil_to_tensor

import evalkit
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.similarity import cosine, cosine_matrix, mean_cosine
from evalkit.run.feature_cache import MemoryFeatureStore
from evalkit.scoring.feature_extraction import FeatureRequest, extract
from evalkit.scoring.metric_models import load_models, select_metrics
from tests.evalkit.conftest import picture

PHOTOS = ("dog6", "teapot", "backpack", "wolf_plushie", "cat2", "rc_car")


def scores(names, images, **options) -> dict[str, list[float]]:
    """Return the values of some metrics, image by image."""
    rows = evalkit.score(images, names, **options)
    return {name: [row.value for row in rows if row.metric == name] for name in names}


def encoded(image: Image.Image, kind: str, **options) -> Image.Image:
    """Return a picture written and read again."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    """Return a picture with noise of a chosen strength, the same noise each time."""
    noise = np.random.default_rng(0).normal(0, 1, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + deviation * noise, 0, 255).astype(np.uint8))


def blocky(image: Image.Image, quality: int) -> Image.Image:
    """Return a picture after JPEG."""
    return encoded(image, "JPEG", quality=quality)


@pytest.fixture(scope="module")
def photo(data: Path) -> Image.Image:
    """Return a real photo, 384 x 384, that is none of those NIQE is fitted to."""
    return ImageOps.fit(Image.open(sorted((data / "dreambooth/dog").glob("*.jpg"))[0]).convert("RGB"), (384, 384))


@pytest.fixture(scope="module")
def natural(data: Path, tmp_path_factory) -> Path:
    """Return NIQE's parameters, fitted to real photos as its authors did: mean and covariance of the blocks' statistics."""
    from pyiqa.archs import niqe_arch

    blocks = []
    for name in PHOTOS:
        shown = ImageOps.fit(Image.open(sorted((data / "dreambooth" / name).glob("*.jpg"))[0]).convert("RGB"), (384, 384))
        levels = niqe_arch.to_y_channel(pil_to_tensor(shown)[None].float() / 255, 255.0).double()
        half = niqe_arch.imresize(levels / 255, scale=0.5, antialiasing=True) * 255
        both = [
            niqe_arch.blockproc(
                niqe_arch.normalize_img_with_gauss(own, padding="replicate"), [side, side], fun=niqe_arch.compute_feature
            )
            for own, side in ((levels, 96), (half, 48))
        ]
        blocks.append(torch.cat(both, dim=-1)[0])
    features = torch.cat(blocks).numpy()
    path = tmp_path_factory.mktemp("niqe") / "niqe.mat"
    scipy.io.savemat(path, {"mu_prisparam": features.mean(axis=0), "cov_prisparam": np.cov(features, rowvar=False)})
    return path


# Up to a blur of 2 pixels: NIQE tells stronger ones from sharp photos (7.7 at 4 pixels, 3.9 sharp) but not from each other.
DAMAGE = {
    "blur": [lambda image, step=step: image.filter(ImageFilter.GaussianBlur(step)) for step in (0.5, 1, 2)],
    "noise": [lambda image, step=step: noisy(image, step) for step in (10, 25, 60)],
    "jpeg": [lambda image, step=step: blocky(image, step) for step in (30, 10, 3)],
}


@pytest.mark.parametrize("kind", ["noise", "jpeg"])
def test_piqe_rises_with_what_it_looks_for(photo, kind):
    values = scores(["piqe"], [photo, *(damage(photo) for damage in DAMAGE[kind])])["piqe"]
    assert values == sorted(values)
    assert values[-1] > values[0] + 5


@pytest.mark.parametrize("kind", DAMAGE)
def test_niqe_of_natural_photos_rises_with_every_damage(photo, natural, kind):
    values = scores(["niqe"], [photo, *(damage(photo) for damage in DAMAGE[kind])], weights={"niqe": natural})["niqe"]
    assert values == sorted(values)
    assert values[-1] > 1.2 * values[0]


@pytest.mark.parametrize("kind", DAMAGE)
def test_no_damaged_image_is_as_like_the_original_as_itself(kind, weights):
    image = picture(3, (128, 128))
    damaged = [image, *(damage(image) for damage in DAMAGE[kind])]
    for values in scores(["clip_i", "dino"], damaged, references=[image], weights=weights).values():
        assert values[0] == pytest.approx(1)
        assert max(values[1:]) < values[0]


def test_png_written_again_changes_no_bit_of_any_score_and_jpeg_does(weights, natural):
    image = picture(4, (224, 208))
    again = encoded(encoded(image, "PNG", compress_level=1), "PNG", compress_level=9)
    names = ["clip_t", "clip_i", "dino", "piqe", "entropy", "niqe"]
    options = {"prompts": "a red star", "references": [picture(5)], "weights": {**weights, "niqe": natural}}
    for values in scores(names, [image, again, blocky(image, 40)], **options).values():
        assert values[0] == values[1] != values[2]


def test_a_mirror_image_has_the_same_entropy_and_other_features(weights):
    image = picture(6, (96, 96))
    found = scores(["entropy", "clip_i", "dino"], [image, ImageOps.mirror(image)], references=[image], weights=weights)
    assert found["entropy"][0] == found["entropy"][1]
    assert found["clip_i"][1] < 1 - 1e-6
    assert found["dino"][1] < 1 - 1e-6


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_a_mean_over_references_knows_neither_order_nor_length_nor_copies(images, references, seed):
    rng = np.random.default_rng(seed)
    own, shown = rng.normal(size=(images, 6)), rng.normal(size=(references, 6))
    rows = [mean_cosine(image, list(shown)) for image in own]
    assert np.mean(rows) == pytest.approx(cosine_matrix(own, shown).mean())
    assert [mean_cosine(image, list(rng.permutation(shown))) for image in own] == pytest.approx(rows)
    assert [mean_cosine(3 * image, [*shown, *(2 * shown)]) for image in own] == pytest.approx(rows)
    # the other way round: the references against the images
    assert np.mean([mean_cosine(image, list(own)) for image in shown]) == pytest.approx(np.mean(rows))
    assert float(cosine(own[0], own[0])) == pytest.approx(1)
    assert float(cosine(own[0], -own[0])) == pytest.approx(-1)


PICTURES = [picture(seed, size) for seed, size in enumerate([(80, 72), (64, 130), (200, 90), (80, 72), (96, 96)])]
ITEMS = [
    FeatureRequest(f"{number:02}", str(number), lambda image=image: Pixels(image), ("clip", "dino", "piqe"))
    for number, image in enumerate(PICTURES)
]


@pytest.fixture(scope="module")
def encoders(weights):
    """Return three models: for pictures cut to a square, twice, and for whole ones."""
    return load_models(select_metrics(["clip_i", "dino", "piqe"]), weights, "cpu")[0]


@pytest.fixture(scope="module")
def alone(encoders) -> dict[tuple[str, str], np.ndarray]:
    """Return the features of every picture by every model, each computed by itself."""
    store = MemoryFeatureStore()
    extract(ITEMS, encoders, store, batch_size=1, workers=1)
    return {
        (name, item.key): store.get(model.recipe.key, [item.key])[item.key]
        for name, model in encoders.items()
        for item in ITEMS
    }


@settings(max_examples=12, deadline=None)
@given(st.permutations(ITEMS), st.integers(1, 6), st.integers(1, 4), st.sets(st.sampled_from([item.key for item in ITEMS])))
def test_order_batch_size_threads_and_what_the_cache_holds_change_no_feature(encoders, alone, order, batch_size, workers, held):
    store = MemoryFeatureStore()
    for name, model in encoders.items():
        store.put(model.recipe.key, {key: alone[name, key] for key in held})
    tally = extract(order, encoders, store, batch_size=batch_size, workers=workers)
    assert tally.decodes == len(ITEMS) - len(held)
    for (name, key), expected in alone.items():
        found = store.get(encoders[name].recipe.key, [key])[key]
        assert np.abs(found - expected).max() <= 1e-5 * max(1.0, float(np.abs(expected).max()))
