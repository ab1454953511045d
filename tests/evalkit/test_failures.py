"""One image never ends a job: each failure is a problem with the image's name, all other scores are kept."""

import os
import sqlite3
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import evalkit
from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure
from evalkit.metric_spec.signature import Recipe
from evalkit.run.feature_cache import FILE_NAME
from evalkit.scoring.file_scorer import find_images, score_files
from evalkit.scoring.image_scores import ImageScoringError
from evalkit.scoring.run_scorer import score_run
from tests.evalkit.conftest import picture


class Vectors:
    """A model of a user: features of a chosen width; it fails for a batch that holds a black image."""

    largest_batch, smallest_side = 8, 1

    def __init__(self, width):
        self.width = width
        self.recipe = Recipe(f"vectors{width}", "", "native-size", "fp32", ())

    def prepare(self, pixels):
        return torch.from_numpy(pixels.array().transpose(2, 0, 1).copy())

    def features(self, batch):
        if (batch.float().mean(dim=(1, 2, 3)) == 0).any():
            raise RuntimeError("a black image")
        return batch.float().mean(dim=(2, 3))[:, [0] * self.width].numpy()


def card(width, needs="image"):
    @metric(direction="none", unit="u", limits=(None, None), source="s", licence="none", needs=needs)
    def mine(weights, device):
        """Measure something."""
        return Vectors(width)

    return mine


def test_a_batch_that_fails_is_retried_image_by_image():
    images = [picture(0), Image.new("RGB", (80, 72)), picture(1)]
    scores = evalkit.score(images, [card(1)], on_error="skip")
    assert scores.indices == [0, 2]
    (problem,) = scores.problems
    assert problem.reason == "images[1]: mine fails: RuntimeError: a black image; mend the metric, or leave it out"
    with pytest.raises(ImageScoringError, match=r"images\[1\]: mine fails") as caught:
        evalkit.score(images, [card(1)])
    assert list(caught.value.scores) == list(scores)


def test_one_unreadable_file_leaves_the_other_scores(tmp_path):
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no")
    scores = evalkit.score([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png"], ["piqe"], on_error="skip")
    assert [row.image for row in scores] == [str(tmp_path / "a.png")]
    assert ["b.png" in scores.problems[1].reason, "gone.png" in scores.problems[0].reason] == [True, True]
    assert scores.to_pandas()["index"].tolist() == [0]
    assert scores.to_arrow().num_rows == 1


def test_features_of_the_wrong_kind_are_refused():
    with pytest.raises(UserError, match="single number for an image, whose cosine is always 1 or -1"):
        evalkit.score([picture(0)], [card(1, "references")], references=[picture(1)])
    with pytest.raises(UserError, match="returns 3 numbers for an image; return 1"):
        evalkit.score([picture(0)], [card(3)])


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([lambda weights, device: None], r"metrics\[0\]: is of type function, not a metric"),
        (["piqe", lambda weights, device: None], r"metrics\[1\]: is of type function"),
        ([3], r"metrics\[0\]: is of type int"),
        ([None], r"metrics\[0\]: is of type NoneType"),
        ([card(1), card(1)], "two different metrics are called 'mine'"),
    ],
)
def test_what_is_not_a_metric_is_refused_and_never_dropped(metrics, message):
    with pytest.raises(UserError, match=message):
        evalkit.score([picture(0)], metrics)


@pytest.mark.parametrize(
    "images",
    [None, 3, {"a": 1}, [object()], [None], [np.zeros((2, 2, 2), dtype=np.uint8)]],
    ids=lambda value: type(value[0] if isinstance(value, list) else value).__name__,
)
def test_what_is_not_images_is_a_user_error(images):
    with pytest.raises(UserError):
        evalkit.score(images, ["piqe"])


def test_a_pipe_and_a_folder_are_named_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    picture(0).save(tmp_path / "folder.png" / "a.png")
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.png", "pipe.png"]
    result = score_files(find_images([str(tmp_path)]), ["piqe"])
    assert [row.image for row in result.rows] == [str(tmp_path / "folder.png" / "a.png")]
    assert "pipe.png: is not a regular file" in result.problems[0].reason


def test_a_strip_is_refused_before_it_fills_the_memory(weights, tmp_path):
    Image.new("RGB", (1, 60_000), "red").save(tmp_path / "strip.png")
    scores = evalkit.score(
        [tmp_path / "strip.png", picture(0)], ["clip_i"], references=[picture(1)], weights=weights, on_error="skip"
    )
    assert scores.indices == [1]
    assert "1 x 60000 pixels are too narrow a strip" in scores.problems[0].reason


def palette_without_palette() -> bytes:
    """Return a palette PNG that lacks its palette."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)
    rows = zlib.compress(b"\0\1\2\3\4" * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_palette_image_without_a_palette_is_one_line_or_a_score():
    scores = evalkit.score([palette_without_palette(), picture(0)], ["entropy"], on_error="skip")
    assert 1 in scores.indices
    assert all("\n" not in problem.reason for problem in scores.problems)


def test_image_files_of_every_suffix_are_found(tmp_path):
    for name in ("a.avif", "b.jfif", "c.jpe", "d.jp2", "e.JPG", "f.heic", "notes.txt"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.avif", "b.jfif", "c.jpe", "d.jp2", "e.JPG", "f.heic"]


def damage(path, number):
    """Overwrite one page of a SQLite file."""
    with path.open("r+b") as stream:
        stream.seek(4096 * number)
        stream.write(os.urandom(4096))


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_damaged_cache_page_loses_no_row(run, weights, page):
    whole = score_run(run, ["clip_t", "piqe"], weights=weights)
    with sqlite3.connect(run / FILE_NAME) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(run / FILE_NAME, page)
    (run / "scores.parquet").unlink()
    again = score_run(run, ["clip_t", "piqe"], weights=weights)
    assert not again.problems
    assert [(row.case, row.arm, row.seed, row.metric) for row in again.rows] == [
        (row.case, row.arm, row.seed, row.metric) for row in whole.rows
    ]


def test_features_that_the_cache_does_not_return_are_computed_again(run, monkeypatch):
    """A damaged index finds no row although the table holds it, and reports no error."""
    from evalkit.run.feature_cache import FeatureCache

    whole = score_run(run, ["piqe"]).rows
    (run / "scores.parquet").unlink()
    get, renewed = FeatureCache.get, []

    def forgetful(self, recipe, keys):
        found = get(self, recipe, keys)
        if not self.renewals:
            found.pop(whole[0].image_sha256, None)
        else:
            renewed.append(True)
        return found

    monkeypatch.setattr(FeatureCache, "get", forgetful)
    result = score_run(run, ["piqe"])
    assert [row.value for row in result.rows] == [row.value for row in whole]
    assert renewed
    assert not result.problems


def test_a_measure_that_fails_for_one_image_of_a_run_costs_its_row_alone(run):
    black = sorted(run.glob("images/**/*.png"))[0]

    def fragile(pixels):
        if pixels.mean() < bound:
            raise IndexError("nothing there")
        return float(pixels.mean())

    bound = np.asarray(Image.open(black)).mean() + 1e-9

    @metric(direction="none", unit="u", limits=(None, None), source="s", licence="none")
    def mine(weights, device):
        """Measure something."""
        return Measure("mine", fragile)

    result = score_run(run, [mine])
    assert len(result.rows) + len(result.problems) == 12
    assert result.problems
    assert all("mine: its function fails: IndexError: nothing there" in problem.reason for problem in result.problems)
