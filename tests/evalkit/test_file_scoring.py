"""Scoring pictures that belong to no run: what is found, what comes out, and what bad places get."""

import json

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from evalkit.cli.main import build
from evalkit.errors import UserError
from evalkit.scoring.file_scorer import find_images, score_files
from tests.evalkit.conftest import picture


@pytest.fixture
def photos(tmp_path):
    """Return a folder of three pictures, one of them below, beside things that are none."""
    root = tmp_path / "photos"
    (root / "below/.hidden").mkdir(parents=True)
    picture(1).save(root / "b.png")
    picture(2).save(root / "a.JPG", format="JPEG")
    picture(3).save(root / "below/c.webp")
    picture(4).save(root / "below/.hidden/d.png")
    (root / "notes.txt").write_text("no picture")
    return root


def call(*words):
    """Run `evalkit score WORDS`; what it raises is raised."""
    result = CliRunner().invoke(build(), ["score", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_folders_patterns_and_files_name_pictures_each_once_in_order(photos):
    def names(*places):
        return [path.relative_to(photos).as_posix() for path in find_images([str(photos / place) for place in places])]

    assert names(".") == ["a.JPG", "b.png", "below/c.webp"]
    assert names("*.png") == ["b.png"]
    assert names("**/*.webp") == ["below/c.webp"]
    assert names("b.png", "*.JPG", "below") == ["b.png", "a.JPG", "below/c.webp"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gone", "no such file or folder"),
        ("*.tiff", "no file matches"),
        ("below/.hidden/empty", "contains neither manifest.json nor an image"),
    ],
)
def test_a_place_without_pictures_is_named(photos, place, message):
    (photos / "below/.hidden/empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_images([str(photos / place)])


def test_a_folder_gets_one_line_per_metric_and_its_rows_as_parquet(photos, tmp_path):
    out = tmp_path / "deep/rows.parquet"
    done = call(photos, "--metrics", "piqe", "--out", out)
    assert done.exit_code == 0
    (line,) = [line for line in done.stdout.splitlines() if "piqe" in line and "decoded" not in line and "piqe|" not in line]
    assert " 3 " in line
    rows = pq.read_table(out).to_pylist()
    assert [row["image"] for row in rows] == [str(photos / name) for name in ("a.JPG", "b.png", "below/c.webp")]
    assert {row["direction"] for row in rows} == {"lower"}
    assert all(row["signature"].startswith("piqe|") for row in rows)


def test_json_on_standard_output_is_json_and_nothing_else(photos):
    document = json.loads(call(photos, "--metrics", "piqe", "--json").stdout)
    assert [mean["n"] for mean in document["means"]] == [3]
    assert len(document["scores"]) == 3
    assert document["file"] is None


def test_a_run_in_json_has_its_arms(run):
    document = json.loads(call(run, "--metrics", "piqe", "--json").stdout)
    assert [(mean["arm"], mean["n"]) for mean in document["means"]] == [("direct", 4), ("dropout", 4), ("orthogonal", 4)]
    assert document["file"] == str(run / "scores.parquet")


def test_what_was_computed_is_kept(photos):
    first = score_files(find_images([str(photos)]), ["piqe"])
    second = score_files(find_images([str(photos)]), ["piqe"])
    assert second.tally.decodes == 0
    assert second.rows == first.rows


def test_a_file_that_can_not_be_read_costs_its_own_row(photos, tmp_path):
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:300])
    done = call(photos, "--metrics", "piqe", "--out", tmp_path / "rows.parquet")
    assert done.exit_code == 1
    assert "b.png: is truncated or damaged" in done.stderr
    assert pq.read_metadata(tmp_path / "rows.parquet").num_rows == 2


@pytest.mark.parametrize("name", ["clip_t", "clip_i", "arm_similarity", "diversity_clip"])
def test_a_metric_that_needs_a_run_says_so_in_one_line(photos, name):
    with pytest.raises(UserError, match=rf"^{name}: compares an image with .* make a run with `evalkit import[^\n]*$"):
        call(photos, "--metrics", name)


def test_without_names_a_folder_gets_what_it_can_be_given(photos):
    done = call(photos, "--allow-missing")
    assert done.exit_code == 0
    assert "piqe" in done.stdout
    assert "not run, because their weights are missing: musiq" in done.stderr


def test_a_run_stands_alone_and_names_its_own_file(run, photos):
    with pytest.raises(UserError, match="a run is scored alone"):
        call(run, photos)
    with pytest.raises(UserError, match=r"--out: the scores of a run are written to .*scores\.parquet"):
        call(run, "--out", photos / "x.parquet")


def test_what_was_done_to_many_pictures_is_said_in_one_line(tmp_path):
    (tmp_path / "grey").mkdir()
    for number in range(5):
        Image.new("L", (40, 40), 50 * number).save(tmp_path / "grey" / f"{number}.png")
    Image.new("CMYK", (40, 40)).save(tmp_path / "grey" / "5.jpg")
    notes = [line for line in call(tmp_path / "grey", "--metrics", "entropy").stdout.splitlines() if line.startswith("note:")]
    first = tmp_path / "grey/0.png"
    assert notes == [
        f"note: 5 images: greyscale, copied into three channels; the first is {first}",
        f"note: {tmp_path / 'grey/5.jpg'}: CMYK, converted to RGB without a colour profile",
    ]
