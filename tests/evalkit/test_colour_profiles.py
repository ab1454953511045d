"""Colour profiles: sRGB stays as it is to the bit, any other is converted to sRGB and noted."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

import evalkit
from evalkit.errors import UserError
from evalkit.io.image_arrays import to_image
from evalkit.io.image_reader import decode
from tests.evalkit.conftest import picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Colorants of Display P3, adapted to D50 (Apple's profile).
P3 = {"rXYZ": (0.51512, 0.24120, -0.00105), "gXYZ": (0.29198, 0.69225, 0.04189), "bXYZ": (0.15710, 0.06657, 0.78407)}


def display_p3() -> bytes:
    """Return an sRGB profile with the colorants of Display P3 and another description."""
    data = bytearray(SRGB)
    (count,) = struct.unpack(">I", data[128:132])
    for index in range(count):
        name, offset, _ = struct.unpack(">4sII", data[132 + 12 * index : 144 + 12 * index])
        if name.decode() in P3:
            data[offset + 8 : offset + 20] = struct.pack(">3i", *(round(value * 65536) for value in P3[name.decode()]))
    return bytes(
        data.replace("sRGB".encode("utf-16-be"), "DisP".encode("utf-16-be")).replace(b"sRGB built-in", b"DisP built-in")
    )


def saved(image: Image.Image, profile: bytes | None, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, icc_profile=profile)
    return buffer.getvalue()


def in_srgb(colour: tuple[int, int, int]) -> np.ndarray:
    """Return a Display P3 colour in sRGB by the definition: decode, change primaries through XYZ, encode."""
    srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    values = np.array(colour) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    moved = (np.linalg.inv(srgb) @ np.array(list(P3.values())).T @ linear).clip(0, 1)
    return 255 * np.where(moved <= 0.0031308, 12.92 * moved, 1.055 * moved ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("colour", [(200, 80, 60), (60, 180, 90), (128, 128, 128), (255, 255, 255)])
def test_display_p3_is_converted_to_srgb_and_noted(colour):
    pixels = decode(saved(Image.new("RGB", (4, 4), colour), display_p3()), "x.png")
    assert np.abs(pixels.array()[0, 0].astype(float) - in_srgb(colour)).max() <= 1.5
    (note,) = pixels.notes
    assert "colour profile DisP" in note
    assert "converted to sRGB" in note


def test_an_srgb_profile_or_none_changes_no_bit():
    image = picture(1)
    for profile in (SRGB, None):
        pixels = decode(saved(image, profile), "x.png")
        assert np.array_equal(pixels.array(), np.asarray(image))
        assert pixels.notes == ()


def test_a_damaged_profile_is_noted_and_ignored():
    pixels = decode(saved(picture(1), b"no profile at all"), "x.png")
    assert np.array_equal(pixels.array(), np.asarray(picture(1)))
    assert "colour profile ignored" in pixels.notes[0]


def test_an_image_in_memory_scores_as_its_file(tmp_path):
    path = tmp_path / "p3.png"
    path.write_bytes(saved(picture(1), display_p3()))
    (from_file,) = evalkit.score([path], ["piqe"])
    with Image.open(path) as opened:
        opened.load()
        (in_memory,) = evalkit.score([opened], ["piqe"])
    assert from_file.value == in_memory.value != evalkit.score([picture(1)], ["piqe"])[0].value


def test_rounding_passes_and_a_wrong_range_does_not():
    image = np.asarray(picture(1)) / 255
    exact = np.asarray(to_image(image, "x", (0, 1)))
    assert np.array_equal(exact, np.asarray(to_image(np.where(image == image.max(), image.max() + 3e-7, image), "x", (0, 1))))
    with pytest.raises(UserError, match="almost black in the stated range 0 to 255; check value_range"):
        to_image(image, "x", (0, 255))
    with pytest.raises(UserError, match="outside the stated range"):
        to_image(image * 1.01 + 0.01, "x", (0, 1))
