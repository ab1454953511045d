"""docs/metrics.md holds: every metric is there, its import.toml is read, its example of a metric runs."""

import re
import tomllib
from pathlib import Path

from PIL import Image

from evalkit.metric_spec.signature import ModelRecipe, sign
from evalkit.metrics import METRICS
from evalkit.metrics.documentation import with_tables
from evalkit.metrics.models import known_sources
from evalkit.run.import_description import Description
from evalkit.set_metrics import SET_METRICS
from tests.evalkit.conftest import picture

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_tables_are_those_of_the_registries():
    assert with_tables(PAGE) == PAGE, "run: python -m evalkit.metrics.documentation docs/metrics.md"
    for name in (*METRICS, *SET_METRICS, *known_sources()):
        assert f"| `{name}` |" in PAGE


def test_the_example_of_a_description_is_one():
    text = Description.model_validate(tomllib.loads(blocks("toml")[1]))
    assert text.plain_prompt(text.cases[0], "page") == "cat beside toy"


def test_the_example_of_a_table_of_weights_names_models_that_exist():
    models = {card.model for card in METRICS.values()}
    assert tomllib.loads(blocks("toml")[0])["weights"].keys() <= models


def test_the_example_of_a_metric_runs_as_a_plugin_as_written(tmp_path):
    import json

    from typer.testing import CliRunner

    from evalkit.cli.main import build

    example = next(block for block in blocks("python") if block.startswith("# brightness.py"))
    assert len(example.splitlines()) <= 15
    (tmp_path / "brightness.py").write_text(example)
    picture(1).save(tmp_path / "a.jpg")
    words = ["score", f"{tmp_path}/*.jpg", "--plugin", f"{tmp_path}/brightness.py", "--metrics", "brightness", "--json"]
    done = CliRunner().invoke(build(), words, catch_exceptions=False)
    (row,) = json.loads(done.stdout)["scores"]
    assert row["metric"] == "brightness"
    assert 0 < row["value"] < 255
    assert row["image"] == str(tmp_path / "a.jpg")


def test_the_example_of_a_joint_metric_answers_as_written(tmp_path):
    import evalkit
    from evalkit.metrics.plugins import load_plugin

    (tmp_path / "answers.py").write_text(next(block for block in blocks("python") if block.startswith("# answers.py")))
    (card,) = load_plugin(tmp_path / "answers.py")
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "red")]
    rows = evalkit.score(images, [card], prompts=["a red star", "a star", "a blue star"])
    assert [row.value for row in rows] == [1, 1, 0]


def test_the_example_of_a_signature_has_the_parts_of_a_real_one():
    (example,) = [line for line in PAGE.splitlines() if line.startswith("clip_t|")]
    recipe = ModelRecipe("m", "0" * 64, "p", "fp32", ("open_clip1", "torch1"))
    assert example.strip().count("|") == sign("clip_t", recipe, "cos", "dreambooth").count("|")
