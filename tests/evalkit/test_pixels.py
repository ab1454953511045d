"""Every kind of picture people have: read the same everywhere, or refused by name, and said."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from evalkit.errors import UserError
from evalkit.io.image_reader import convert, decode, fingerprint, load
from tests.evalkit.conftest import picture


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """Return a picture as a file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep_grey() -> Image.Image:
    """Return 16 bits of grey: black, half, white."""
    return Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))


HALF_RED = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
PALETTE = picture(1, (8, 8)).quantize(16)
EXIF = Image.Exif()
EXIF[0x0112] = 6

CASES = [
    ("rgb", encoded(picture(1, (8, 8))), (8, 8), ""),
    ("rgba", encoded(HALF_RED), (2, 2), "transparent, laid on white"),
    ("rgba_opaque", encoded(picture(1, (8, 8)).convert("RGBA")), (8, 8), "alpha channel without effect"),
    ("palette", encoded(PALETTE), (8, 8), "palette"),
    ("palette_transparent", encoded(PALETTE, transparency=0), (8, 8), "transparent, laid on white"),
    ("grey", encoded(picture(1, (8, 8)).convert("L")), (8, 8), "greyscale"),
    ("grey_alpha", encoded(picture(1, (8, 8)).convert("LA")), (8, 8), "alpha channel without effect"),
    ("bits", encoded(picture(1, (8, 8)).convert("1")), (8, 8), "black and white"),
    ("deep_grey", encoded(deep_grey()), (3, 1), "16-bit greyscale"),
    ("cmyk", encoded(picture(1, (8, 8)).convert("CMYK"), "JPEG"), (8, 8), "CMYK"),
    ("rotated", encoded(picture(1, (8, 4)), "JPEG", exif=EXIF), (4, 8), "EXIF orientation 6"),
    ("animated", encoded(picture(1, (8, 8)), "GIF", save_all=True, append_images=[picture(2, (8, 8))]), (8, 8), "2 frames"),
    ("webp", encoded(picture(1, (8, 8)), "WEBP", lossless=True), (8, 8), ""),
]


@pytest.mark.parametrize(("data", "size", "note"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_readable_kind_becomes_upright_rgb_and_what_was_done_is_said(data, size, note):
    pixels = decode(data, "a.png")
    assert pixels.image.mode == "RGB"
    assert pixels.image.size == size
    assert pixels.array().shape == (size[1], size[0], 3)
    assert pixels.array().dtype == np.uint8
    if note:
        assert note in "; ".join(pixels.notes)
    else:
        assert pixels.notes == ()


def test_sixteen_bits_keep_their_scale():
    assert decode(encoded(deep_grey()), "deep.png").array()[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_shows_white():
    assert decode(encoded(HALF_RED), "a.png").array()[0, 0].tolist() == [255, 127, 127]
    hidden = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert decode(encoded(hidden), "a.png").array()[0, 0].tolist() == [255, 255, 255]


def test_a_turned_photo_is_the_upright_one():
    upright = picture(1, (4, 8))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    turned = decode(encoded(lying, "TIFF", exif=EXIF), "a.tiff")
    assert np.array_equal(turned.array(), np.asarray(upright))


def test_png_and_webp_of_one_picture_are_the_same_pixels():
    image = picture(5)
    assert np.array_equal(decode(encoded(image), "a").array(), decode(encoded(image, "WEBP", lossless=True), "b").array())


WHOLE = encoded(picture(1, (64, 64)))
BAD = [
    ("truncated", WHOLE[: len(WHOLE) // 2], "truncated or damaged"),
    ("truncated_jpeg", encoded(picture(1, (64, 64)), "JPEG")[:600], "truncated or damaged"),
    ("text", b"not a picture at all", "is not an image"),
    ("empty", b"", "is not an image"),
    ("float", encoded(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF"), "32-bit numbers"),
    ("bomb", encoded(Image.new("1", (20_000, 20_000))), "at most 178,956,970"),
]


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_can_not_be_read_is_refused_by_name_in_one_line(data, message):
    with pytest.raises(UserError, match=message) as caught:
        decode(data, "folder/x.png")
    assert str(caught.value).startswith("folder/x.png: ")
    assert "\n" not in str(caught.value)


def test_a_large_picture_is_read_without_a_warning():
    assert decode(encoded(Image.new("1", (12_000, 9_000))), "large.png").image.size == (12_000, 9_000)


def test_a_lost_file_is_named(tmp_path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        load(tmp_path / "gone.png")


def test_lab_is_turned_into_rgb_and_unknown_numbers_are_refused():
    lab = ImageCms.profileToProfile(picture(1), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    assert "mode LAB" in convert(lab, "x").notes[0]
    with pytest.raises(UserError, match="mode I"):
        convert(Image.new("I", (2, 2)), "x")


def test_pictures_in_memory_are_told_apart_by_what_they_show():
    one = picture(1)
    assert fingerprint(one) == fingerprint(one.copy())
    assert fingerprint(one) != fingerprint(picture(2))
    other = PALETTE.copy()
    other.putpalette([0, 1, 2] * 16)
    assert fingerprint(other) != fingerprint(PALETTE)
