"""docs/api.md, held to the code: a sorted list of names that exist and holds all that the documentation imports."""

import ast
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import evalkit

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("evalkit", "generation", "db", "analysis", "study_app")
NAMES = re.findall(r"(?m)^\| `([\w.]+)` \|", (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8"))


def documented_code() -> Iterator[str]:
    """Yield the Python code of all pages and notebooks."""
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        yield from re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for notebook in sorted((REPOSITORY / "docs").glob("*.ipynb")):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def test_the_list_is_sorted_and_every_name_exists():
    assert NAMES == sorted(NAMES)
    assert len(NAMES) == len(set(NAMES))
    for name in NAMES:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute), name


def test_all_that_evalkit_exports_is_on_the_list():
    assert [f"evalkit.{name}" for name in sorted(evalkit.__all__)] == [name for name in NAMES if name.count(".") == 1]


def test_all_that_the_documentation_imports_is_on_the_list():
    imported = set()
    for code in documented_code():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert imported
    assert imported <= set(NAMES)
