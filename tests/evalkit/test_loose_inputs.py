"""`evalkit score FOLDER --prompts --references`: the scores of `evalkit.score`, and one line for each wrong table."""

import json

import pytest
from typer.testing import CliRunner

import evalkit
from evalkit.cli.main import build
from evalkit.cli.score_inputs import prompts_of, references_of
from evalkit.errors import UserError
from tests.evalkit.conftest import picture


@pytest.fixture
def photos(tmp_path):
    """Return a folder with two images in subfolders, and references of two concepts next to it."""
    for index, name in enumerate(("photos/x/a.png", "photos/y/b.png", "refs/star/0.png", "refs/moon/0.png", "refs/moon/1.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index).save(path)
    return tmp_path


def test_a_folder_with_a_table_of_prompts_scores_as_in_python(photos, weights):
    (photos / "prompts.csv").write_text("file,prompt\nx/a.png,a star\nb,a moon\n")
    words = ["score", str(photos / "photos"), "--prompts", str(photos / "prompts.csv"), "--references", str(photos / "refs")]
    words += [
        "--metrics",
        "clip_t,dino",
        "--json",
        *(word for name in weights for word in ("--weights", f"{name}={weights[name]}")),
    ]
    done = CliRunner().invoke(build(), words)
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["scores"]
    images = sorted((photos / "photos").rglob("*.png"))
    groups = {name: sorted((photos / "refs" / name).iterdir()) for name in ("moon", "star")}
    expected = evalkit.score(images, ["clip_t", "dino"], prompts=["a star", "a moon"], references=groups, weights=weights)
    assert [(row["image"], row["metric"], row["concept"], row["value"]) for row in rows] == [
        (row.image, row.metric, row.concept, row.value) for row in expected
    ]


def test_prompts_are_matched_by_the_longest_end_of_the_path(photos):
    images = sorted((photos / "photos").rglob("*.png"))
    (photos / "p.jsonl").write_text('{"file_name": "a.png", "caption": "one"}\n{"image": "y/b", "text": "two"}\n')
    assert prompts_of(images, str(photos / "p.jsonl")) == ["one", "two"]
    assert prompts_of(images, "a text") == ["a text"] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,prompt\na.png,x\n", "has no prompt for 1 image"),
        ("name_of_it,prompt\na.png,x\n", "row 1 has no file or no prompt"),
        ("file,prompt\na.png,\n", "row 1 has no file or no prompt"),
        ("file,prompt\na.png,x\na.png,y\n", "row 2 gives a.png another prompt"),
        (None, "can't be read as a table"),
    ],
)
def test_a_wrong_table_is_one_line(photos, text, message):
    path = photos / "p.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        prompts_of(sorted((photos / "photos").rglob("*.png")), str(path))


def test_references_are_one_concept_or_one_per_subfolder(photos):
    assert {name: len(paths) for name, paths in references_of(photos / "refs").items()} == {"star": 1, "moon": 2}
    assert {name: len(paths) for name, paths in references_of(photos / "refs/moon").items()} == {"moon": 2}
    picture(9).save(photos / "refs/loose.png")
    with pytest.raises(UserError, match="next to subfolders"):
        references_of(photos / "refs")
    with pytest.raises(UserError, match="is not a folder"):
        references_of(photos / "gone")
