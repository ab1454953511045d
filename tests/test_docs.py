"""The docs name everything there is: methods, metrics, shipped experiments, options of the study."""

from pathlib import Path

import pytest

from evalkit.metrics import METRICS
from generation.lora.form_table import lora_files_page
from generation.merge.method_table import methods_page
from generation.merge.methods import MERGE_METHODS
from generation.shipped_files import shipped

DOCS = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_page_of_merge_methods_is_up_to_date():
    assert page("methods.md") == methods_page(MERGE_METHODS), "run: evalkit methods --markdown > docs/methods.md"


def test_the_page_of_lora_files_is_up_to_date():
    assert page("lora-files.md") == lora_files_page(), "run: evalkit methods --lora-files > docs/lora-files.md"


@pytest.mark.parametrize("experiment", shipped("experiments"))
def test_every_shipped_experiment_is_named(experiment: str):
    assert f"`{experiment}`" in page("generation.md")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_described(metric: str):
    assert f"`{metric}`" in page("metrics.md")


def test_every_study_command_is_described():
    from study_app.command import app

    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert f"| `{name}` |" in page("study.md"), name
