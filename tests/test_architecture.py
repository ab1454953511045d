"""docs/architecture.md, checked against the code: packages, imports, commands, and which packages stay light."""

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("evalkit", "generation", "db", "analysis", "study_app")
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def imported_packages(package: str) -> set[str]:
    """Return the other packages that any file of `package` imports, lazily or not."""
    found = set()
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return (found & set(PACKAGES)) - {package}


def test_the_table_shows_exactly_the_packages_and_imports_there_are():
    rows = re.search(r"\| package \| purpose \| imports \|.*?\n\n", PAGE, re.DOTALL)
    assert rows is not None
    table = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*?) \|$", rows[0], re.MULTILINE))
    imports = {package: set(re.findall(r"`(\w+)`", cell)) for package, cell in table.items()}
    assert imports == {package: imported_packages(package) for package in PACKAGES}


def test_every_command_is_on_the_page():
    for entry in entry_points(group="evalkit.commands"):
        assert re.search(rf"`evalkit {entry.name}\b", PAGE), f"docs/architecture.md does not mention `evalkit {entry.name}`"


@pytest.mark.parametrize(
    "package", ["evalkit", "evalkit.cli.main", "db.models", "analysis.report.command", "study_app.command"]
)
def test_light_packages_load_no_torch(package: str):
    code = (
        f"import sys, {package}\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'open_clip', 'pyiqa', 'timm'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_needs_no_heavy_package():
    code = (
        "import sys; sys.argv = ['evalkit', '--help']; from evalkit.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'open_clip', 'pyiqa', 'pandas', 'scipy', 'streamlit', 'sqlalchemy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout


def test_each_class_name_is_used_once():
    names: dict[str, list[str]] = {}
    for package in ("evalkit", "generation", "db", "analysis", "study_app"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    names.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    twice = {name: paths for name, paths in names.items() if len(paths) > 1}
    assert not twice
