"""Mutated images, caches and arguments: each failure is one line that names its image, and nothing else is lost."""

import io
import resource
import sqlite3
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import evalkit
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure
from evalkit.scoring.file_scorer import score_files
from tests.evalkit.conftest import picture

MODES = {
    "rgb.png": ("RGB", {}), "palette.png": ("P", {}), "grey.png": ("L", {}), "alpha.png": ("RGBA", {}),
    "deep.png": ("I;16", {}), "a.jpg": ("RGB", {}), "cmyk.jpg": ("CMYK", {}), "a.webp": ("RGBA", {}),
    "a.tif": ("RGB", {"compression": "tiff_lzw"}), "a.gif": ("P", {}), "a.bmp": ("RGB", {}), "bits.png": ("1", {}),
    "a.avif": ("RGB", {}), "a.jp2": ("RGB", {}),
}  # fmt: skip


@metric(direction="none", unit="level", limits=(0.0, 255.0), source="this test", licence="none")
def brightness(weights, device):
    """Measure the mean of all pixels; fail for a dark image."""

    def mean(pixels):
        if pixels.mean() < 40:
            raise IndexError("too\ndark")
        return float(pixels.mean())

    return Measure("brightness", mean)


def originals():
    """Return one encoded image for each format and mode, with an EXIF orientation where the format has one."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 3, "a" * 40
    encoded = []
    for number, (name, (mode, options)) in enumerate(MODES.items()):
        stream = io.BytesIO()
        image = picture(number, (40, 36))
        image = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        kind = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name.partition(".")[2], name.partition(".")[2].upper())
        extra = {"exif": exif} if kind in ("JPEG", "WEBP", "TIFF", "PNG") else {}
        image.save(stream, kind, **options, **extra)
        encoded.append(stream.getvalue())
    return encoded


def mutated(data, rng):
    """Return bytes with some overwritten, in the header more often; cut off; or with a part repeated."""
    raw = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        end = min(len(raw), 80) if rng.random() < 0.5 else len(raw)
        raw[rng.integers(end)] = rng.integers(256)
    kind = rng.random()
    if kind < 0.15:
        raw = raw[: rng.integers(len(raw))]
    elif kind < 0.25:
        start = rng.integers(len(raw))
        raw[start:start] = raw[start : start + 64]
    return bytes(raw)


def check_images(count, names, **options):
    """Score mutated images; each has a row or a problem for each metric, and problems are single lines with its name."""
    rng = np.random.default_rng(count)
    sources = originals()
    images = [*sources, *(mutated(sources[index % len(sources)], rng) for index in range(count))]
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        scores = evalkit.score(images, names, on_error="skip", **options)
    assert not [str(warning.message) for warning in raised if "PIL" in warning.filename]
    assert all("\n" not in problem.reason and problem.name in problem.reason for problem in scores.problems)
    cards = [name if isinstance(name, str) else name.name for name in names]
    models = {card: evalkit.metric(card).model if card != "brightness" else card for card in cards}
    rows = {(index, row.metric) for index, row in zip(scores.indices, scores, strict=True)}
    failed = {(problem.name, problem.model) for problem in scores.problems} | {
        (problem.name, model) for problem in scores.problems if not problem.model for model in models.values()
    }
    keys = {problem.key for problem in scores.problems if problem.key}
    for index in range(len(images)):
        for card in cards:
            has = (index, card) in rows
            # images of the same bytes share their problem
            explained = (f"images[{index}]", models[card]) in failed or sha256_bytes(images[index]) in keys
            assert has or explained, f"{card} of images[{index}] has neither row nor problem"
    return scores


def test_mutated_images_have_a_row_or_a_problem_each(capfd):
    scores = check_images(40, ["entropy", brightness])
    assert len(scores) > 20
    assert len(scores.problems) > 5
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_thousand_mutated_images_under_every_kind_of_metric(every_weights, weights):
    given = {**{name: every_weights[name] for name in ("niqe", "brisque")}, **weights}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    names = ["entropy", brightness, "piqe", "niqe", "brisque", "clip_t", "clip_i", "dino"]
    check_images(1000, names, weights=given, prompts="a star", references=[picture(1)])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5_000_000


def check_caches(count, tmp_path, monkeypatch):
    """Score with mutated caches: the values stay those of an empty cache, and every row is there."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.png")
        picture(number, (24, 20)).save(paths[-1])
    whole = [(row.image, row.metric, row.value) for row in score_files(paths, ["entropy", brightness]).rows]
    file = tmp_path / "cache/features.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = file.read_bytes()
    rng = np.random.default_rng(count)
    for _ in range(count):
        for other in file.parent.iterdir():
            other.unlink()
        file.write_bytes(mutated(data, rng))
        result = score_files(paths, ["entropy", brightness])
        assert not result.problems
        assert [(row.image, row.metric, row.value) for row in result.rows] == whole


def test_mutated_caches_change_no_score(tmp_path, monkeypatch):
    check_caches(8, tmp_path, monkeypatch)


@pytest.mark.slow
def test_five_hundred_mutated_caches_change_no_score(tmp_path, monkeypatch):
    check_caches(500, tmp_path, monkeypatch)


ZEROS = np.zeros((4, 4, 3))
BAD = {
    "metrics": [None, 3, "entropy", b"x", [None], [[]], [""], []],
    "value_range": [3, "ab", (1,), (0, 1, 2), ("a", "b"), (None, 1), (1, 0), (0, float("nan")), (0, 1j)],
    "device": [object(), "nope", ""],
    "batch_size": [0, "a", None, 1.5, True],
    "preset": [3, None, "nope", ["a"]],
    "weights": [3, ["a"], {"clip": 3}, {"clip": None}, {3: "x"}, {"nope": "x"}],
    "prompts": [3, [3], [None], "", ["a", "b"], b"x", []],
    "references": [3, {"a": None}, [], {"a": []}, "x"],
    "on_error": [3, None, "nope", ["raise"]],
    "images": [
        None, 3, picture(0), np.array(1), [{}], [ZEROS], [ZEROS.astype(object)], [ZEROS.astype("U1")], [ZEROS.astype(complex)],
        [b""], ["\0"], ["x" * 5000], [torch.zeros(3, 4, 4, dtype=torch.uint8, device="meta")], [np.array(1)],
        [torch.zeros(3, 4, 4).to_sparse()], [object()],
    ],
}  # fmt: skip


@pytest.mark.parametrize("argument", BAD)
def test_wrong_arguments_are_user_errors_of_one_line(argument):
    good = {"images": [picture(0)], "metrics": ["entropy"]}
    for value in BAD[argument]:
        with pytest.raises(UserError) as caught:
            evalkit.score(**{**good, argument: value})
        assert "\n" not in str(caught.value)
    closed = Image.new("RGB", (4, 4))
    closed.close()
    scores = evalkit.score([closed, picture(0)], ["entropy"], on_error="skip")
    assert scores.indices == [1]
    assert scores.problems[0].reason.startswith("images[0]: can't be read as an image (ValueError: ")


def test_wrong_arguments_of_a_scorer_and_of_names_are_user_errors():
    for options in ({"workers": 0}, {"workers": "a"}, {"cache": 3}, {"cache": ""}):
        with pytest.raises(UserError):
            evalkit.Scorer(["entropy"], **options)
    for name in (3, None, "", [], "clipt"):
        with pytest.raises(UserError):
            evalkit.metric(name)
    scorer = evalkit.Scorer(["entropy"])
    for images in (None, picture(0), 3):
        with pytest.raises(UserError):
            list(scorer.stream(images))
    with pytest.raises(UserError):
        scorer.to(3)
