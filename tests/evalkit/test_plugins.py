"""Metrics that others add: by a file, by an installed package; what broken ones get."""

import sys

import numpy as np
import pytest
from PIL import Image

import evalkit
from evalkit.errors import UserError
from evalkit.metric_spec.pixel_metric import Measure
from evalkit.metrics.plugins import known_metrics, load_plugin
from tests.evalkit.conftest import picture

PLUGIN = '''
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure
from evalkit.metrics.piqe import piqe

def mean(pixels):
    return {value}

@metric(direction="none", unit="level", limits=(0.0, 255.0), source="this test", licence="none")
def {name}(weights, device):
    """Mean of all pixels."""
    return Measure("{name}", mean)
'''


def write(folder, *, name="bright", value="pixels.mean()"):
    """Write a plug-in and return its path."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, value=value))
    return path


def test_a_file_brings_the_metrics_it_defines_and_none_it_imports(tmp_path):
    known = known_metrics([write(tmp_path)])
    assert [name for name in known if name not in evalkit.list_metrics()] == ["bright"]
    (row,) = evalkit.score([Image.new("RGB", (9, 9), (10, 20, 30))], [known["bright"]])
    assert row.value == 20


def test_another_code_is_another_recipe(tmp_path):
    cards = [load_plugin(write(tmp_path / kind, value=value))[0] for kind, value in (("a", "0"), ("b", "1"), ("c", "1"))]
    signatures = [evalkit.score([picture(1)], [card])[0].signature for card in cards]
    assert signatures[0] != signatures[1]
    assert signatures[1] == signatures[2]


def test_a_function_without_a_file_has_a_recipe_too():
    names = {"np": np}
    exec("def low(pixels): return pixels.min()\ndef high(pixels): return pixels.max()", names)
    low, high = (Measure("m", names[name]).recipe.key for name in ("low", "high"))
    assert low != high
    assert low == Measure("m", names["low"]).recipe.key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", r"bad\.py: can't be loaded: SyntaxError"),
        ("import nothing_of_this_name", r"bad\.py: can't be loaded: ModuleNotFoundError: No module named"),
        ("1 / 0", r"bad\.py: can't be loaded: ZeroDivisionError: division by zero"),
        ("from evalkit.metrics.piqe import piqe", r"bad\.py: defines no metric"),
        (PLUGIN.format(name="piqe", value="0"), r"two metrics are called 'piqe'; give it another name"),
    ],
)
def test_a_broken_file_gets_one_line(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        known_metrics([path])
    assert "\n" not in str(caught.value)


def test_no_file_and_no_python_are_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.py: is not a file"):
        load_plugin(tmp_path / "gone.py")
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(UserError, match=r"text\.txt: is not a Python file"):
        load_plugin(tmp_path / "text.txt")


def test_a_function_that_fails_is_named(tmp_path):
    (card,) = load_plugin(write(tmp_path, value="pixels.nonsense"))
    with pytest.raises(UserError, match="metric bright: its function fails: AttributeError"):
        evalkit.score([picture(1)], [card])


def test_an_installed_package_brings_metrics_by_entry_point(tmp_path, monkeypatch):
    write(tmp_path, name="from_package")
    info = tmp_path / "from_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: from-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evalkit.metrics]\nfrom_package = from_package:from_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert "from_package" in evalkit.list_metrics()
        assert evalkit.metric("from_package").summary == "Mean of all pixels."
        (row,) = evalkit.score([picture(1)], ["from_package"])
        assert row.metric == "from_package"
        (info / "entry_points.txt").write_text("[evalkit.metrics]\nfrom_package = from_package:mean\n")
        with pytest.raises(UserError, match="entry point from_package = from_package:mean: is not a metric"):
            evalkit.list_metrics()
    finally:
        sys.modules.pop("from_package", None)
