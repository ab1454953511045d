"""Training images and captions: read as the metrics read them, and what is odd is named before training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evalkit.errors import UserError
from evalkit.io.image_reader import load
from generation.train.reference_folder import class_prompt_notes, concept_words, read_references

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    (tmp_path / "dogs").mkdir()
    for number in range(3):
        Image.fromarray(PIXELS).save(tmp_path / "dogs" / f"{number}.png")
    return tmp_path / "dogs"


def test_odd_pictures_are_read_as_in_scoring(dogs: Path):
    hidden = np.dstack([np.full((20, 30, 3), (255, 0, 0), np.uint8), np.zeros((20, 30), np.uint8)])
    Image.fromarray(hidden, "RGBA").save(dogs / "0.png")
    Image.fromarray(PIXELS).quantize(16).save(dogs / "1.png")
    Image.fromarray(np.full((20, 30), 32896, np.uint16)).save(dogs / "2.png")
    read = read_references(dogs, "a V dog")
    assert [np.asarray(image).tolist() for image, _ in read.images] == [
        load(dogs / f"{number}.png").array().tolist() for number in range(3)
    ]
    assert np.asarray(read.images[0][0]).min() == 255
    assert np.asarray(read.images[2][0]).max() == 128
    assert "0.png: transparent, laid on white" in read.notes


@pytest.mark.parametrize("name", ["0.txt", "0.TXT", "0.caption", "0.png.txt", "0.png.Caption"])
@pytest.mark.parametrize("data", [b"a V dog,\nasleep\r\n", b"\xef\xbb\xbfa V dog, asleep"])
def test_a_caption_is_found_and_read_as_one_line(dogs: Path, name: str, data: bytes):
    (dogs / name).write_bytes(data)
    read = read_references(dogs, "a V dog", ["V"])
    assert [prompt for _, prompt in read.images] == ["a V dog, asleep", "a V dog", "a V dog"]
    assert read.notes == (f"{dogs}: 3 images, 1 with captions",)


def test_what_is_left_out_and_what_looks_like_a_mistake_is_named(dogs: Path):
    shutil.copy(dogs / "0.png", dogs / "0.bmp")
    (dogs / "0.txt").write_text("a dog")
    (dogs / "moving.gif").write_bytes(b"GIF89a")
    (dogs / "7.txt").write_text("nobody's")
    read = read_references(dogs, "a V dog", ["V"])
    assert read.notes[0] == f"{dogs}: 4 images, 2 with captions, 2 files left out: 7.txt, moving.gif"
    assert "0.txt: is the caption of 0.bmp, 0.png" in read.notes
    assert any(note.startswith("captions without 'V'") for note in read.notes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "0.txt").write_bytes(b""), r"0\.txt: is empty; write the caption"),
        (lambda folder: (folder / "0.txt").write_bytes(b"\xef\xbb\xbf \n"), r"0\.txt: is empty"),
        (lambda folder: (folder / "0.txt").write_bytes("café".encode("latin-1")), r"0\.txt: is not UTF-8"),
        (
            lambda folder: [(folder / name).write_text("a V dog") for name in ("0.txt", "0.caption")],
            r"0\.png: has several captions: 0\.caption, 0\.txt; keep one",
        ),
        (lambda folder: (folder / "0.png").write_bytes(b"no image"), r"0\.png: is not an image"),
        (lambda folder: shutil.rmtree(folder), r"the folder does not exist"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], r"contains no image"),
    ],
    ids=["empty", "blank", "latin-1", "two captions", "no image", "no folder", "no images"],
)
def test_a_bad_folder_is_one_line(dogs: Path, spoil, message: str):
    spoil(dogs)
    with pytest.raises(UserError, match=message) as caught:
        read_references(dogs, "a V dog")
    assert "\n" not in str(caught.value)


def test_a_picture_of_400_megapixels_is_refused(dogs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("evalkit.io.image_reader.LARGEST", 500)
    with pytest.raises(UserError, match="pixels are too many"):
        read_references(dogs, "a V dog")


def test_prompts_that_can_t_teach_the_concept_are_named():
    assert concept_words("a photo of <v1> dog", ["a photo of a dog"]) == ["<v1>"]
    assert class_prompt_notes("a <v1> dog", ["a dog", "a dog and a cat"]) == []
    notes = class_prompt_notes("a <v1> dog", ["a <v1> cat", "a dog"], ["<v1>"])
    assert len(notes) == 1
    assert notes[0].startswith("class_prompt 'a <v1> cat' holds '<v1>', which names the concept")
    assert "so nothing names the concept" in class_prompt_notes("a dog", ["a big dog"])[0]


@given(st.lists(st.sampled_from(["V", "a", "dog", "<x>", "k9"]), min_size=1), st.lists(st.sampled_from(["a", "dog", "k9"])))
def test_words_of_the_concept_are_in_its_prompt_and_in_no_class_prompt(prompt: list[str], general: list[str]):
    words = concept_words(" ".join(prompt), [" ".join(general)])
    assert set(words) == set(prompt) - set(general)
