"""Pictures as arrays and tensors: the same pixels give the same scores, and no range is guessed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import evalkit
from evalkit.errors import UserError
from evalkit.io.image_arrays import to_image
from tests.evalkit.conftest import picture


def chw(array):
    """Return an array H x W x 3 as a tensor 3 x H x W."""
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def scores(images, **options):
    """Return the rows of piqe as hash and value."""
    return [(row.image_sha256, row.value) for row in evalkit.score(images, ["piqe"], **options)]


def test_the_same_pixels_give_the_same_scores_whichever_way_they_come(save):
    images = [picture(1), picture(2)]
    arrays = [np.asarray(image) for image in images]
    expected = scores(images)
    assert scores(arrays) == expected
    assert scores(np.stack(arrays)) == expected
    assert scores([chw(array) for array in arrays]) == expected
    assert scores(torch.stack([chw(array) for array in arrays])) == expected
    assert scores([array.astype(np.float32) / 255 for array in arrays], value_range=(0, 1)) == expected
    assert scores([chw(array).double() for array in arrays], value_range=(0, 255)) == expected
    assert scores([chw(array).float() / 127.5 - 1 for array in arrays], value_range=(-1, 1)) == expected
    mixed = [images[0], np.float32(arrays[1]) / 255]
    assert scores(mixed, value_range=(0, 1)) == expected
    path = save(images[0], "a.png")
    assert scores([path])[0][1] == pytest.approx(expected[0][1])


def test_references_come_as_arrays_too(weights):
    images, shown = np.stack([np.asarray(picture(1))]), np.stack([np.asarray(picture(seed)) for seed in (5, 6)])
    one = evalkit.score(images, ["dino"], references=shown, weights=weights)
    two = evalkit.score(images, ["dino"], references={"": [picture(5), picture(6)]}, weights=weights)
    assert one == two


@given(st.integers(0, 255), st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]), st.sampled_from(["float32", "float64"]))
def test_every_level_comes_back_from_every_range(level, value_range, kind):
    low, high = value_range
    values = np.full((2, 3, 3), low + (high - low) * level / 255, dtype=kind)
    assert np.asarray(to_image(np.clip(values, low, high), "it", value_range)).tolist() == np.full((2, 3, 3), level).tolist()


def test_bfloat16_is_read():
    values = torch.tensor([0.0, 0.5, 1.0], dtype=torch.bfloat16).reshape(3, 1, 1)
    assert np.asarray(to_image(values, "it", (0, 1))).tolist() == [[[0, 128, 255]]]


GREY = np.full((8, 9, 3), 100, np.uint8)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (
            [GREY / 255],
            {},
            r"images\[0\]: holds float64 numbers, whose range is ambiguous; state it with value_range",
        ),
        ([chw(GREY).float()], {}, r"images\[0\]: holds float32 numbers"),
        ([GREY.astype(np.int64)], {}, r"images\[0\]: holds int64 numbers"),
        ([GREY * 1.0], {"value_range": (0, 1)}, r"values from 100 to 100, outside the stated range 0 to 1"),
        ([GREY / 255 - 0.5], {"value_range": (0, 1)}, r"outside the stated range 0 to 1"),
        ([GREY * np.nan], {"value_range": (0, 1)}, r"values from nan to nan, outside"),
        ([GREY / 255], {"value_range": (1, 0)}, r"value_range: 1 to 0 is not a range"),
        ([GREY / 255], {"value_range": (0, float("inf"))}, r"value_range: 0 to inf is not a range"),
        ([GREY.transpose(2, 0, 1)], {}, r"has the shape 3 x 8 x 9; an array has to be H x W x 3"),
        ([torch.from_numpy(GREY)], {}, r"has the shape 8 x 9 x 3; a tensor has to be 3 x H x W"),
        ([GREY[..., :2]], {}, r"has the shape 8 x 9 x 2; an array has to be H x W x 3 in RGB, RGBA or greyscale"),
        ([GREY[:0]], {}, r"has the shape 0 x 9 x 3"),
        (GREY, {}, r"images: has the shape 8 x 9 x 3; give a list of images, or an array N x H x W x 3"),
        ("a.png", {}, r"images: is a single image; give a list"),
        (picture(1), {}, r"images: is a single image; give a list"),
    ],
)
def test_what_is_ambiguous_is_refused_in_one_line(images, options, message):
    with pytest.raises(UserError, match=message) as caught:
        evalkit.score(images, ["piqe"], **options)
    assert "\n" not in str(caught.value)
