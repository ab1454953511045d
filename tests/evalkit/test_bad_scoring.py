"""What bad pictures, bad caches and bad moments cost: their own rows, one clear line each, and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from evalkit.cli.main import build
from evalkit.errors import UserError
from evalkit.metrics.plugins import load_plugin
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import RunScore, read_scores
from evalkit.scoring.run_scorer import score_run
from tests.evalkit.conftest import picture
from tests.evalkit.tiny_encoders import save_tiny_clip

# A metric that costs nothing, or as long as is wished; it leaves a mark per picture.
PLUGIN = '''
import time
from pathlib import Path
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure

def mean(pixels):
    time.sleep({seconds})
    with (Path(__file__).parent / "seen").open("a") as seen:
        seen.write(".")
    return pixels.mean()

@metric(direction="none", unit="level", limits=(0.0, 255.0), source="this test", licence="none")
def brightness(weights, device):
    """Mean of all pixels."""
    return Measure("brightness", mean)
'''


@pytest.fixture
def plugin(tmp_path):
    """Return a plug-in file."""
    path = tmp_path / "plugin/brightness.py"
    path.parent.mkdir()
    path.write_text(PLUGIN.format(seconds=0))
    return path


def seen(plugin: Path) -> int:
    """Return how many pictures a plug-in has seen."""
    marks = plugin.parent / "seen"
    return len(marks.read_text()) if marks.exists() else 0


def many(folder: Path, count: int) -> list[Path]:
    """Write tiny pictures of different sizes and return their files."""
    folder.mkdir()
    files = [folder / f"{number:04d}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.new("RGB", (3 + number % 4, 5), (number % 251, number % 241, number // 251)).save(file)
    return files


def score(*words: object):
    """Run `evalkit score WORDS`."""
    return CliRunner().invoke(build(), ["score", *map(str, words)], catch_exceptions=False)


BROKEN = {
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:50]), "truncated or damaged"),
    "empty": (lambda file: file.write_bytes(b""), "is not an image"),
    "text": (lambda file: file.write_text("<html>not found</html>"), "is not an image"),
    "flipped bits": (lambda file: file.write_bytes(file.read_bytes()[:41] + b"\xff" * 8 + file.read_bytes()[49:]), "damaged"),
    "numbers without a range": (
        lambda file: Image.fromarray(np.ones((4, 4), np.float32)).save(file, "TIFF"),
        "range is unknown",
    ),
    "a pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "is not a regular file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_bad_file_among_many_costs_its_row_alone(kind, tmp_path, plugin):
    spoil, said = BROKEN[kind]
    # the whole thousand once; for the other kinds of damage as many as show it
    files = many(tmp_path / "many", 1000 if kind == "cut off" else 100)
    spoil(files[77])
    done = score(tmp_path / "many", "--plugin", plugin, "--metrics", "brightness", "--out", tmp_path / "rows.parquet")
    assert done.exit_code == 1
    assert [line for line in done.stderr.splitlines() if "not scored" in line and said in line and "0077.png" in line]
    names = [Path(row["image"]).name for row in pq.read_table(tmp_path / "rows.parquet").to_pylist()]
    assert names == [file.name for file in files if file != files[77]]


# size, and what piqe says of it, if anything
SIZES = {
    "1 x 1": ((1, 1), "1 x 1 pixels are too few; piqe needs 32 on each side"),
    "a line": ((1, 900), "1 x 900 pixels are too few; piqe needs 32 on each side"),
    "12,000 px wide": ((12_000, 150), ""),
    "12,000 px on each side": ((12_000, 12_000), "12000 x 12000 pixels are too many for piqe, which reads an image at its own"),
}


@pytest.mark.parametrize("kind", SIZES)
def test_the_smallest_and_the_largest_picture_have_a_score_or_one_clear_line(kind, tmp_path, plugin, weights):
    import evalkit

    size, said = SIZES[kind]
    file = tmp_path / "a.png"
    Image.new("1", size, 1).save(file)
    (card,) = load_plugin(plugin)
    rows = evalkit.score([file], ["clip_t", "dino", card], prompts="a star", references=[picture(1)], weights=weights)
    assert [row.metric for row in rows] == ["clip_t", "dino", "brightness"]
    assert rows[2].value == 255
    done = score(file, "--metrics", "piqe")
    lines = [line for line in done.stderr.splitlines() if "not scored" in line]
    assert (done.exit_code, len(lines)) == ((1, 1) if said else (0, 0))
    assert all(said in line for line in lines)


def test_an_empty_folder_is_named_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    process = start(tmp_path / "empty", cwd=tmp_path)
    _, errors = process.communicate(timeout=240)
    assert (process.returncode, len(errors.strip().splitlines())) == (1, 1)
    assert "empty: contains neither manifest.json nor an image" in errors


def test_weights_of_another_architecture_or_hash_are_named(run, weights, tmp_path):
    with pytest.raises(UserError, match=r"is not open_clip's|needs exactly one weight file|can't be read as weights"):
        score_run(run, ["clip_t"], weights={"clip": next(weights["dino"].glob("*.safetensors"))})
    before = {row.signature for row in score_run(run, ["clip_t"], weights=weights).rows}
    other = save_tiny_clip(tmp_path / "other", seed=5)
    after = {row.signature for row in score_run(run, ["clip_t"], weights={"clip": other}).rows}
    assert before.isdisjoint(after)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def newer(file: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("spoil", [cut, newer])
def test_a_spoilt_cache_is_made_anew_and_no_score_changes(spoil, run, weights):
    before = score_run(run, ["clip_t", "piqe"], weights=weights)
    spoil(run / ".cache/features.sqlite")
    (run / "scores.parquet").unlink()
    after = score_run(run, ["clip_t", "piqe"], weights=weights)
    assert after.rows == before.rows
    assert any("the cache could not be used and was rebuilt" in note for note in after.notes)


def test_a_case_without_a_prompt_is_named_and_the_others_are_scored(run, weights):
    manifest = Manifest.load(run)
    first, *others = manifest.cases
    manifest.model_copy(update={"cases": (first.model_copy(update={"plain_prompt": " "}), *others)}).save(run)
    result = score_run(run, ["clip_t"], weights=weights)
    assert [problem.reason for problem in result.problems] == [
        "case both: clip_t was not scored, for its plain prompt is empty"
    ]
    assert {row.case for row in result.rows} == {"alone"}


def start(*words: object, cwd: Path) -> "subprocess.Popen[str]":
    """Start `evalkit score WORDS` in a process of its own."""
    # whoever starts the tests may have told them, and so this process, to ignore Ctrl-C
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from evalkit.cli.main import main; main()"
    command = [sys.executable, "-c", code, "score", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_score_one_run_at_once(run, tmp_path, plugin):
    both = [start(run, "--plugin", plugin, "--metrics", "brightness", cwd=tmp_path) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    assert len(read_scores(run)) == 12
    assert not list(run.rglob("*.part"))


def test_a_stopped_scoring_leaves_nothing_half_written_and_goes_on(tmp_path, plugin):
    plugin.write_text(PLUGIN.format(seconds=0.05))
    files = many(tmp_path / "many", 120)
    words = (tmp_path / "many", "--plugin", plugin, "--metrics", "brightness", "--out", tmp_path / "out/rows.parquet")
    process = start(*words, cwd=tmp_path)
    end = time.monotonic() + 240
    while seen(plugin) < 10 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip().splitlines()[-1]) == (130, "interrupted; run the same command again to resume")
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    stopped = seen(plugin)
    assert 10 <= stopped < len(files)
    document = json.loads(score(*words, "--json").stdout)
    assert len(document["scores"]) == len(files)
    # the picture that was being scored when the signal came may be seen twice
    assert seen(plugin) - len(files) <= 1


@pytest.mark.parametrize("value", [float("inf"), float("nan"), None])
def test_a_stored_score_that_is_no_number_is_one_line(value, tmp_path):
    row = {field.name: "x" for field in fields(RunScore)} | {"seed": 1, "value": value}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "scores.parquet")
    with pytest.raises(UserError, match=r"scores.parquet: .*score the run again"):
        read_scores(tmp_path)
