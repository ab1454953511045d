"""The distribution: names, versions and extras, what hides its packages, and the constraints that pip installs."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import evalkit
from evalkit.cli.main import extra_of, find_commands
from evalkit.distribution import NAME, UNKNOWN_VERSION, installed_version
from evalkit.errors import ALL, EXTRAS_OF, missing_extra
from tests.test_wheel import CALLS, COMMANDS, NEEDS

REPOSITORY = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
# Extras for developers; no command asks a user for them.
DEVELOPER_EXTRAS = {"test", "docs"}
MODULES = {"open-clip-torch": "open_clip", "argon2-cffi": "argon2"}


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;\s]", requirement, maxsplit=1)[0]).lower()


def modules(extra: str) -> set[str]:
    """Return the modules that an extra brings directly, those of the extras it names included."""
    brought = set()
    for requirement in EXTRAS[extra]:
        if name_of(requirement) == NAME:
            inner = re.search(r"\[(.*)\]", requirement)
            assert inner is not None
            brought |= set().union(*(modules(name) for name in inner[1].split(",")))
        else:
            name = name_of(requirement)
            brought.add(MODULES.get(name, name.replace("-", "_")))
    return brought


def run(*words: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environment, check=False)


def test_errors_name_exactly_the_extras_that_bring_a_package():
    users = {extra: modules(extra) for extra in EXTRAS if extra not in DEVELOPER_EXTRAS | {ALL}}
    for module in set().union(*users.values()) | set(EXTRAS_OF):
        assert set(EXTRAS_OF.get(module, ())) == {extra for extra, brought in users.items() if module in brought}, module
    assert set(EXTRAS_OF) - {"ray"} == modules(ALL)


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["generate", "tinyworld"], "torch", "generation"),
        (["train", "recipe.toml"], "diffusers", "generation"),
        (["merge", "tinyworld"], "torch", "generation"),
        (["diagnose", "tinyworld"], "matplotlib", "generation"),
        (["demo"], "torch", "all"),
        (["run", "tinyworld"], "pandas", "all"),
        (["score", "runs/mine"], "torch", "metrics"),
        (["sets", "runs/mine"], "torch", "sets"),
        (["study", "serve", "runs/mine"], "sqlalchemy", "study"),
        (["study", "serve", "runs/mine"], "psycopg", "postgres"),
        (["explore", "runs/mine"], "pandas", "study"),
        (["analyze", "runs/mine"], "scipy", "analysis"),
        (["plan"], "statsmodels", "analysis"),
        (["generate", "tinyworld", "--ray", "local"], "ray", "ray"),
        ([], "torch", "metrics"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(words: list[str], package: str, extra: str):
    error = missing_extra(ModuleNotFoundError(name=f"{package}.part"), extra_of(words))
    assert str(error) == f"the package {package!r} is not installed; run: pip install 'lora-evalkit[{extra}]'"


def test_other_modules_are_no_matter_of_extras():
    assert missing_extra(ModuleNotFoundError(name="os_x")) is None


def test_the_version_is_printed_and_importable(tmp_path: Path):
    assert evalkit.__version__ == installed_version() == version(NAME)
    done = run("-m", "evalkit", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"evalkit {evalkit.__version__}\n")


def test_sources_without_git_have_the_stated_version():
    assert PYPROJECT["tool"]["setuptools_scm"]["fallback_version"] == UNKNOWN_VERSION
    archive = (REPOSITORY / ".git_archival.txt").read_text(encoding="utf-8")
    assert "describe-name: $Format:%(describe" in archive
    assert ".git_archival.txt export-subst" in (REPOSITORY / ".gitattributes").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("foreign", "command"),
    [
        ("generation/__init__.py", ["generate", "tinyworld", "--run", "runs/mine"]),
        ("db/__init__.py", ["study", "status", "runs/mine"]),
        ("analysis.py", ["analyze", "runs/mine", "--margin", "0.05"]),
        ("study_app/__init__.py", ["demo"]),
    ],
)
def test_a_foreign_package_that_hides_ours_is_named(tmp_path: Path, foreign: str, command: list[str]):
    file = tmp_path / foreign
    file.parent.mkdir(exist_ok=True)
    file.touch()
    done = run("-m", "evalkit", *command, cwd=tmp_path, path=".")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    package = foreign.partition("/")[0].removesuffix(".py")
    assert f"error: {file.resolve()}: is imported in place of evalkit's own package {package!r}" in done.stderr


def test_a_foreign_package_stops_no_command_that_needs_none_of_ours(tmp_path: Path):
    (tmp_path / "analysis.py").touch()
    assert run("-m", "evalkit", "metrics", cwd=tmp_path, path=".").returncode == 0


def test_a_folder_without_init_hides_nothing(tmp_path: Path):
    (tmp_path / "analysis").mkdir()
    done = run("-m", "evalkit", "analyze", "runs/mine", cwd=tmp_path, path=".")
    assert "runs/mine" in done.stderr
    assert "in place of" not in done.stderr


def test_no_command_is_listed_twice():
    names = [entry.name for entry in find_commands()]
    assert len(names) == len(set(names))


def test_constraints_pin_every_dependency_within_its_range_for_any_index():
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert [line.partition("==")[0] for line in lines] == sorted(line.partition("==")[0] for line in lines)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    pins = dict(line.split("==") for line in lines)
    direct = {*PYPROJECT["project"]["dependencies"], *(line for lines in EXTRAS.values() for line in lines)}
    from packaging.requirements import Requirement

    for requirement in map(Requirement, direct):
        if requirement.name != NAME:
            assert requirement.specifier.contains(pins[name_of(requirement.name)]), requirement


def test_the_lowest_versions_are_the_bounds_in_pyproject():
    done = run(str(REPOSITORY / ".ci" / "constraints.py"), "lowest", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    lowest = dict(line.split("==") for line in done.stdout.splitlines() if line[0] != "#")
    # two extras bound it; diffusers needs the higher one
    assert lowest["huggingface-hub"] == "1.32"
    assert "pytest" not in lowest
    assert {name_of(line) for line in PYPROJECT["project"]["dependencies"]} <= set(lowest)


def test_errors_point_to_no_document_that_the_wheel_lacks():
    for package in ("evalkit", "generation", "db", "analysis", "study_app"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if re.search(r"\b(raise|Error\(|help=|f?\").*\b(docs/\w+\.md|README\.md|CONTRIBUTING\.md)", line):
                    assert "card.py" in path.name or "blob/main" in line, f"{path}: {line.strip()}"


def test_every_command_has_a_call_in_the_slow_test_of_the_wheel():
    assert CALLS.keys() == NEEDS.keys() == COMMANDS.keys()
