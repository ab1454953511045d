"""The documentation: generated pages are up to date, examples run, everything is described, and prose lines wrap."""

import ast
import re
from pathlib import Path

import pytest

from evalkit.cli.metrics import page as metrics_page
from evalkit.cli.reference_page import reference_page
from evalkit.metrics import METRICS
from generation.lora.form_table import lora_files_page
from generation.merge.method_table import methods_page
from generation.merge.methods import MERGE_METHODS
from generation.shipped_files import shipped

WIDTH = 128
DOCS = Path(__file__).parents[1] / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if path.parent.name != "tables"]
# What someone who searches for a feature would type.
TERMS = (
    "pairwise comparison", "A/B test", "win rate", "inter-rater agreement", "sample size", "power analysis", "reproducible",
    "textual inversion", "multi-GPU", "distributed", "loss function", "getting started", "API reference", "troubleshooting",
)  # fmt: skip


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    return re.sub(r"^\s*```.*?^\s*```$", "", text, flags=re.DOTALL | re.MULTILINE)


def code_blocks(text: str) -> str:
    return "\n".join(re.findall(r"^\s*```(?:sh)?$(.*?)^\s*```$", text, re.DOTALL | re.MULTILINE))


def test_the_page_of_merge_methods_is_up_to_date():
    assert page("methods.md") == methods_page(MERGE_METHODS), "run: evalkit methods --markdown > docs/methods.md"


def test_the_page_of_lora_files_is_up_to_date():
    assert page("lora-files.md") == lora_files_page(), "run: evalkit methods --lora-files > docs/lora-files.md"


def test_the_list_of_metrics_is_up_to_date():
    assert page("reference/metrics.md") == metrics_page(), "run: evalkit metrics --markdown > docs/reference/metrics.md"


def test_the_command_line_reference_is_up_to_date():
    assert page("reference/cli.md") == reference_page(), "run: python -m evalkit.cli.reference_page > docs/reference/cli.md"


def test_the_api_reference_has_exactly_the_public_names():
    names = re.findall(r"^\| `([\w.]+)` \|", page("api.md"), re.MULTILINE)
    assert sorted(re.findall(r"^::: ([\w.]+)$", page("reference/python.md"), re.MULTILINE)) == sorted(names)


def test_public_functions_with_many_arguments_document_each():
    for name in re.findall(r"^::: ([\w.]+)$", page("reference/python.md"), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        base = DOCS.parent / module.replace(".", "/")
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == attribute:
                arguments = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
                text = ast.get_docstring(node) or ""
                undescribed = [one for one in arguments if not re.search(rf"^{one}$", text, re.MULTILINE)]
                assert len(arguments) <= 3 or not undescribed, f"{name}: {undescribed}"


@pytest.mark.parametrize("experiment", shipped("experiments"))
def test_every_shipped_experiment_is_named(experiment: str):
    assert f"`{experiment}`" in page("generation.md")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_described(metric: str):
    assert f"`{metric}`" in page("metrics.md"), "run: python -m evalkit.metrics.documentation docs/metrics.md"


def test_every_study_command_is_described():
    from study_app.command import app

    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert f"| `{name}` |" in page("study.md"), name


def test_the_idea_runs_as_printed_in_about_a_hundred_lines():
    blocks = re.findall(r"```python\n(.*?)```", page("idea.md"), re.DOTALL)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)  # the asserts of the page are the test
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert 50 < len(lines) <= 100


def test_a_metric_from_the_guide_scores(tmp_path: Path):
    from PIL import Image

    import evalkit
    from evalkit.metrics.plugins import known_metrics

    code = re.search(r'```python title="brightness.py"\n(.*?)```', page("howto/extend.md"), re.DOTALL)
    assert code is not None
    (tmp_path / "brightness.py").write_text(code[1])
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png")
    card = known_metrics([tmp_path / "brightness.py"])["brightness"]
    (row,) = evalkit.score([tmp_path / "a.png"], [card])
    assert row.value == 20.0


@pytest.mark.parametrize("term", TERMS)
def test_a_search_for_the_fields_terms_finds_a_page(term: str):
    assert any(term.lower() in path.read_text(encoding="utf-8").lower() for path in PAGES), term


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_prose_lines_wrap(path: Path):
    text = prose(path.read_text(encoding="utf-8"))
    long = [line for line in text.splitlines() if len(line) > WIDTH and not line.lstrip().startswith(("|", "![", "`"))]
    assert not long, "\n".join(long)


def test_every_page_is_in_the_navigation():
    config = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", config, re.MULTILINE))
    assert listed == {path.relative_to(DOCS).as_posix() for path in PAGES}


def test_commands_in_examples_exist():
    from evalkit.cli.main import find_commands
    from study_app.command import app

    commands = {entry.name for entry in find_commands()}
    study = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    for path in PAGES:
        for words in re.findall(r"^\s*evalkit +(.*)$", code_blocks(path.read_text(encoding="utf-8")), re.MULTILINE):
            first, second, *_ = [*words.split(), "", ""]
            if first.isupper() or first.startswith("-"):
                continue
            assert first in commands, f"{path.name}: evalkit {words}"
            assert first != "study" or second in study or second.isupper(), f"{path.name}: evalkit {words}"


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site and GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_included_files_are_included():
    """A marker without its space is printed as it is, and the formatter changes markers in blocks of plain ```python."""
    for path in PAGES:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\s*-+8 ?<", line)]
        wrong = [line for line in lines if not re.fullmatch(r'--8<-- "[\w/.]+"', line)]
        assert not wrong, f'{path.name}: {wrong}; write --8<-- "FILE" in a block of ``` {{ .python }}'


def test_links_to_sections_lead_to_headings():
    for path in PAGES:
        for target, anchor in re.findall(r"\]\(([\w./-]*\.md)?#([\w-]+)\)", path.read_text(encoding="utf-8")):
            page_of_target = (path.parent / target).resolve() if target else path
            assert anchor in anchors(page_of_target), f"{path.relative_to(DOCS)}: {target}#{anchor}"
