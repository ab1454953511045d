"""The manifest: any number of images costs little, whatever way the file is laid out; mistakes are named with their place."""

import json
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.run.image_records import ImageRecord, ImageRecords, image_path
from evalkit.run.manifest import FILE_NAME, Arm, Case, Concept, ImageIndex, Manifest


def image(case: str, arm: str, seed: int, **other: object) -> ImageRecord:
    """Return the image of a cell."""
    hashed = sha256(f"{case} {arm} {seed}".encode()).hexdigest()
    noise = sha256(str(seed).encode()).hexdigest()
    known = {"path": image_path(case, arm, seed), "sha256": hashed, "width": 6, "height": 5, "latents_sha256": noise, **other}
    return ImageRecord(case=case, arm=arm, seed=seed, **known)


def manifest(cases: int, images: ImageRecords | tuple[ImageRecord, ...] | None = None) -> Manifest:
    """Return a manifest of two arms and five seeds."""
    cells = ((f"c{case}", arm, seed) for case in range(cases) for arm in ("direct", "ties") for seed in range(5))
    return Manifest(
        name="made",
        experiment_sha256="0" * 64,
        source="imported",
        concepts=(Concept(name="cat", words="cat", class_word="cat"),),
        arms=(Arm(label="direct", method="direct"), Arm(label="ties", method="ties", parameters={"density": 0.5})),
        cases=tuple(
            Case(id=f"c{case}", concepts=("cat",), prompt="a cat", plain_prompt="a cat", seeds=tuple(range(5)))
            for case in range(cases)
        ),
        images=ImageRecords(image(*cell) for cell in cells) if images is None else images,
    )


def test_an_image_more_costs_a_few_bytes_to_load(tmp_path):
    held, peaks = [], []
    for cases in (200, 1200):
        manifest(cases).save(tmp_path)
        tracemalloc.start()
        there = Manifest.load(tmp_path)
        for sizes, size in zip((held, peaks), tracemalloc.get_traced_memory(), strict=True):
            sizes.append(size)
        tracemalloc.stop()
        assert len(there.images) == 10 * cases
    # its text alone has 300; a tenth of its case is among it, and while the file is read what the JSON said of that too
    assert (held[1] - held[0]) / 10_000 < 300
    assert (peaks[1] - peaks[0]) / 10_000 < 400


def test_images_come_back_as_they_were_given():
    given = (
        image("c0", "direct", 0),
        image("c0", "direct", 1, latents_sha256=None),
        image("c0", "direct", 2, path="images/c0/direct/2.jpg"),
        image("c0", "ties", 2**63 - 1, path="elsewhere.png", latents_sha256="0" * 64),
    )
    packed = ImageRecords(given)
    assert packed == given == tuple(packed)
    assert packed == ImageRecords(list(given))
    assert packed != ImageRecords(given[1:])
    assert packed[-1] == given[-1]
    assert packed[1:3] == given[1:3]
    with pytest.raises(IndexError):
        packed[4]


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_the_layout_of_the_file_is_free(tmp_path, indent):
    whole = manifest(2)
    whole.save(tmp_path)
    document = json.loads((tmp_path / FILE_NAME).read_text())
    assert document["images"] == [one.model_dump() for one in whole.images]
    (tmp_path / FILE_NAME).write_text(json.dumps(dict(sorted(document.items())), indent=indent))
    assert Manifest.load(tmp_path) == whole
    del document["images"]
    (tmp_path / FILE_NAME).write_text(json.dumps(document))
    assert len(Manifest.load(tmp_path).missing()) == 20


def test_a_mistake_in_an_image_is_named_with_its_place(tmp_path):
    manifest(2).save(tmp_path)
    text = (tmp_path / FILE_NAME).read_text()
    for change, message in (
        (lambda document: document["images"][7].update(sha256="x"), r"images\[7\]\.sha256: "),
        (lambda document: document["images"][3].update(sead=1), r"images\[3\]\.sead: unknown key"),
        (lambda document: document.update(images=None), "images: "),
        (lambda document: document["images"].append(document["images"][0]), "occur twice"),
        (lambda document: document["images"][2].update(seed=9), "belongs to no case"),
        (lambda document: document["cases"][1].update(seeds=[1, 1]), r"cases\[1\]\.seeds: a seed occurs twice"),
        (lambda document: document["cases"][1].update(beside=["dog"]), "cases: c1: no concept 'dog'; known: cat"),
        (
            lambda document: document["cases"][1].update(id="c0"),
            r"manifest\.json: cases: c0 occur\(s\) twice; names must differ$",
        ),
        (lambda document: document["arms"][1].update(label="Direct"), r"manifest\.json: arms: names must differ by more than"),
    ):
        document = json.loads(text)
        change(document)
        (tmp_path / FILE_NAME).write_text(json.dumps(document))
        with pytest.raises(UserError, match=message):
            Manifest.load(tmp_path)
    for broken in (text[:-40], "[]", "", "nonsense"):
        (tmp_path / FILE_NAME).write_text(broken)
        with pytest.raises(UserError, match=FILE_NAME):
            Manifest.load(tmp_path)


def test_images_stand_in_order_and_are_found_by_case_and_by_cell():
    whole = manifest(3)
    assert manifest(3, tuple(reversed(whole.images))) == whole
    there = tuple(one for one in whole.images if one.case != "c1")
    part = manifest(3, there)
    assert [len(images) for _, images in part.by_case()] == [10, 0, 10]
    assert part.missing() == tuple(one.cell for one in whole.images if one.case == "c1")
    places = ImageIndex(whole)
    assert all(places.find(one.cell) == place for place, one in enumerate(whole.images))
    assert [places.find(cell) for cell in (("c9", "ties", 0), ("c1", "dare", 0), ("c1", "ties", 9))] == [None] * 3


def test_a_manifest_dumps_its_images_as_records(tmp_path: Path):
    whole = manifest(1)
    assert whole.model_dump()["images"] == tuple(one.model_dump() for one in whole.images)
    assert Manifest.model_validate(whole.model_dump()) == whole
    assert Manifest.model_validate_json(whole.model_dump_json()) == whole
