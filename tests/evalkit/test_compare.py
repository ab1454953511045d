"""`evalkit.compare` and `evalkit score A --against B`: images of two folders by name, or of two lists by position."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import evalkit
from evalkit.cli.main import build
from evalkit.errors import UserError
from evalkit.scoring.pair_scorer import PairScoringError
from tests.evalkit.conftest import picture


@pytest.fixture
def folders(tmp_path):
    """Return two folders that share three of their five names, one of them with equal images."""
    for side, numbers in (("a", (0, 1, 2, 3)), ("b", (0, 1, 2, 4))):
        (tmp_path / side / "deep").mkdir(parents=True)
        for number in numbers:
            image = picture(number if number == 2 else number + 10 * (side == "b"))
            image.save(tmp_path / side / "deep" / f"{number}.{'png' if side == 'a' else 'bmp'}")
    return tmp_path / "a", tmp_path / "b"


def psnr(one, other):
    difference = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    return 10 * math.log10(255**2 / (difference**2).mean())


def test_folders_are_matched_by_name_and_equal_images_are_noted(folders, weights):
    scores = evalkit.compare(*folders, ["psnr", "dino"], weights=weights)
    values = {(row.image[-5], row.metric): row.value for row in scores}
    assert sorted(values) == [("0", "arm_dino"), ("0", "arm_psnr"), ("1", "arm_dino"), ("1", "arm_psnr"), ("2", "arm_dino")]
    assert values["0", "arm_psnr"] == pytest.approx(psnr(picture(0), picture(10)), abs=1e-4)
    assert values["2", "arm_dino"] == pytest.approx(1, abs=1e-6)
    assert ["same pixels" in note for note in scores.notes] == [True]
    assert [path[-5:] for path in scores.unmatched] == ["3.png", "4.bmp"]
    assert list(scores.to_pandas().columns) == ["image", "other", "metric", "value", "direction", "signature"]
    flipped = evalkit.compare(*folders[::-1], ["psnr", "dino"], weights=weights)
    assert sorted(row.value for row in flipped) == sorted(row.value for row in scores)


def test_lists_are_matched_by_position_and_a_broken_image_costs_its_own_pair():
    left, right = [picture(0), b"no", picture(1)], [picture(2), picture(3), picture(4)]
    scores = evalkit.compare(left, right, ["psnr"], on_error="skip")
    assert [row.value for row in scores] == [
        pytest.approx(psnr(picture(0), picture(2)), abs=1e-4),
        pytest.approx(psnr(picture(1), picture(4)), abs=1e-4),
    ]
    assert "left image 1: is not an image" in scores.problems[0].reason
    with pytest.raises(PairScoringError) as caught:
        evalkit.compare(left, right, ["psnr"])
    assert len(caught.value.scores) == 2


def test_wrong_calls_are_one_line(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for left, right, metrics, message in (
        (folders[0], [picture(0)], ["psnr"], "one side is a folder"),
        ([picture(0)], [], ["psnr"], "1 image against 0"),
        (folders[0], folders[1], ["piqe"], "piqe does not compare two images"),
        (folders[0], folders[1], "psnr", "is a single metric"),
        (tmp_path / "gone", folders[1], ["psnr"], "is not a folder"),
        (folders[0], tmp_path, ["psnr"], "no image has the same name"),
    ):
        with pytest.raises(UserError, match=message):
            evalkit.compare(left, right, metrics)


def test_the_command_compares_two_folders(folders, tmp_path):
    words = ["score", str(folders[0]), "--against", str(folders[1]), "--metrics", "psnr"]
    done = CliRunner().invoke(build(), [*words, "--json"])
    assert done.exit_code == 1  # two images have no counterpart
    document = json.loads(done.stdout)
    assert [row["metric"] for row in document["scores"]] == ["arm_psnr"] * 2
    assert len(document["unmatched"]) == 2
    (folders[0] / "deep/3.png").unlink()
    (folders[1] / "deep/4.bmp").unlink()
    done = CliRunner().invoke(build(), [*words, "--out", str(tmp_path / "pairs.parquet")])
    assert done.exit_code == 0
    assert "Mean over pairs" in done.stdout
    assert (tmp_path / "pairs.parquet").exists()
