"""The command line as a whole: plug-ins, completion, JSON, terminal width, plurals, and the next command."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from evalkit.cli.console import command_line
from evalkit.cli.main import build, find_commands
from evalkit.metrics import METRICS
from evalkit.plural import plural
from evalkit.set_metrics import SET_METRICS
from generation.merge.methods import MERGE_METHODS
from tests.command_line import call, json_of
from tests.runs import make_run

REPOSITORY = Path(__file__).parents[1]
EVALKIT = Path(sys.executable).with_name("evalkit")


@pytest.fixture
def broken_plugin(tmp_path: Path) -> Path:
    """Return a folder with an installed package whose command names a missing module."""
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evalkit.commands]\nodd = odd_package.command:odd\n")
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", arms=("direct", "an_arm_with_a_name_of_more_than_forty_letters"))
    return tmp_path / "run"


def evalkit(*words: str, path: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from evalkit.cli.main import main; sys.argv[0] = 'evalkit'; main()"
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment, check=False)


def test_a_broken_plugin_stops_no_command_but_its_own(broken_plugin: Path):
    assert evalkit("metrics", path=broken_plugin).returncode == 0
    broken = evalkit("odd", path=broken_plugin)
    assert broken.returncode == 1
    assert broken.stderr.count("\n") == 1
    assert "odd_package" in broken.stderr


def test_an_unused_kernel_prints_no_warning():
    code = (
        "import logging, sys; from evalkit.cli.main import main; sys.argv = ['evalkit', '--help']\n"
        "try: main()\nexcept SystemExit: logging.getLogger('bitsandbytes.backends.cpu').warning('no kernel')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evalkit" in done.stdout
    assert "no kernel" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "position", "expected"), [("evalkit study st", 2, "status"), ("evalkit analyze --mar", 2, "--margin-scale")]
)
def test_the_shell_completes_commands_and_options(typed: str, position: int, expected: str):
    environment = {
        **os.environ, "_EVALKIT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(position),
    }  # fmt: skip
    done = subprocess.run([EVALKIT], capture_output=True, text=True, env=environment, check=False)
    assert expected in done.stdout.split(), done.stderr


def test_the_completion_script_can_be_shown():
    # the shell is the parent process, so there has to be one
    script = f"{EVALKIT} --show-completion; true"
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "_EVALKIT_COMPLETE=complete_bash" in shown.stdout, shown.stderr


def test_every_installed_command_is_ordered_and_has_help():
    from evalkit.cli.main import ORDER, build

    assert {entry.name for entry in find_commands()} == set(ORDER)
    app = build()
    for command in app.registered_commands:
        assert command.callback is not None
        assert (command.callback.__doc__ or "").strip(), command.name


def test_study_commands_are_listed_in_the_order_of_use(monkeypatch, capsys):
    code, out = call(monkeypatch, capsys, "study", "--help")
    assert code == 0
    names = ("init", "simulate", "serve", "status", "pause", "lock", "export", "verify")
    positions = [out.index(f" {name} ") for name in names]
    assert positions == sorted(positions), out


def every_help() -> Iterator[tuple[str, str, list[str]]]:
    """Yield each command's words, its help as printed at 80 columns, and the help texts in it as they are written."""

    def below(command, words: list[str]):
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                yield from below(child, [*words, name])
        texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
        printed = CliRunner().invoke(build(), [*words, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).stdout
        yield " ".join(words), printed, texts

    yield from below(typer.main.get_command(build()), [])


def test_every_help_text_is_printed_whole():
    for words, printed, texts in every_help():
        assert "…" not in printed, f"evalkit {words} --help cuts a name"
        # square brackets are markup of the terminal's colours, and would vanish
        lost = [text for text in texts if re.search(r"\[/?[a-z#@]", text)]
        assert not lost, f"evalkit {words} --help loses what is in brackets: {lost}"


@pytest.mark.parametrize("width", [80, 60])
def test_no_name_is_cut_in_a_narrow_terminal(width: int, run: Path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    for command, names in (("methods", MERGE_METHODS), ("metrics", {**METRICS, **SET_METRICS})):
        _, out = call(monkeypatch, capsys, command)
        assert "…" not in out
        table = out[: out.rindex("┘")]
        for name in names:
            assert f"│ {name} " in table, name
    call(monkeypatch, capsys, "study", "init", str(run))
    _, out = call(monkeypatch, capsys, "study", "status", str(run))
    assert "│ direct | an_arm_with_a_name_of_more_than_forty_letters │" in out


def test_lists_and_checks_print_json(run: Path, tmp_path: Path, monkeypatch, capsys):
    methods = json_of(monkeypatch, capsys, "methods")
    assert [method["name"] for method in methods] == list(MERGE_METHODS)
    assert next(method for method in methods if method["name"] == "orthogonal_mc_dropout")["parameters"]["p"] == 0.5
    metrics = json_of(monkeypatch, capsys, "metrics")
    assert {metric["name"] for metric in metrics} == {*METRICS, *SET_METRICS}
    call(monkeypatch, capsys, "study", "simulate", str(run), "--participants", "5")
    status = json_of(monkeypatch, capsys, "study", "status", run)
    assert status["judgments"] == status["judgments_needed"] == 30
    assert "choice" not in json.dumps(status)
    findings = json_of(monkeypatch, capsys, "study", "doctor", run)
    assert {finding["state"] for finding in findings} <= {"good", "warning"}
    call(monkeypatch, capsys, "study", "export", str(run), "--to", str(tmp_path / "e.zip"))
    verified = json_of(monkeypatch, capsys, "study", "verify", tmp_path / "e.zip")
    assert (verified["sound"], verified["judgments"]) == (True, 30)


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1,200 images"), (-1, "-1 images")]
)
def test_counts_agree_with_their_noun(number: int, expected: str):
    assert plural(number, "image") == expected


def test_the_next_command_is_named_after_import_and_init(run: Path, tmp_path: Path, monkeypatch, capsys):
    from PIL import Image

    for arm in ("a", "b"):
        file = tmp_path / "images" / "cat" / arm / "0.png"
        file.parent.mkdir(parents=True)
        Image.new("RGB", (64, 64), "red" if arm == "a" else "blue").save(file)
    target = tmp_path / "imported run"
    (tmp_path / "images" / "import.toml").write_text('name = "cats"\n\n[[cases]]\nid = "cat"\nprompt = "a cat"\n')
    code, out = call(monkeypatch, capsys, "import", str(tmp_path / "images"), "--run", str(target))
    assert code == 0, out
    assert "2 images, 2 arms, 1 case\n" in out
    assert f"next: evalkit score '{target}'" in out
    code, out = call(monkeypatch, capsys, "study", "init", str(run))
    assert f"next: evalkit study serve {run}" in out
    assert "30 judgments needed: at least 5 participants, each of whom judges 6 comparisons" in out


def test_the_pasted_command_has_the_programs_path_if_it_is_not_on_path(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(EVALKIT)])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command_line("score", Path("my run")) == f"{EVALKIT} score 'my run'"
    monkeypatch.setenv("PATH", f"{EVALKIT.parent}:/usr/bin:/bin")
    assert command_line("score", Path("my run")) == "evalkit score 'my run'"


NOUN = re.compile(
    r" ([a-z-]+ )?(images|cases|arms|judgments|pictures|files|seeds|votes|participants|comparisons|answers|rows)\b"
)


def counts_without_plural(path: Path) -> list[str]:
    """Return the places where an f-string puts a count before a plural noun without `plural`, so that 1 is wrong."""
    places = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in pairwise(node.values):
            if (
                isinstance(value, ast.FormattedValue)
                and isinstance(value.value, ast.Call)
                and getattr(value.value.func, "id", "") in ("len", "count", "sum")
                and isinstance(text, ast.Constant)
                and NOUN.match(str(text.value))
            ):
                places.append(f"{path.relative_to(REPOSITORY)}:{value.lineno}: {ast.unparse(value.value)}{text.value}")
    return places


def test_every_printed_count_uses_plural():
    packages = ("evalkit", "generation", "db", "analysis", "study_app")
    files = [path for package in packages for path in (REPOSITORY / package).rglob("*.py")]
    places = [place for path in files for place in counts_without_plural(path)]
    assert not places, "write plural(len(images), 'image') from evalkit.plural instead:\n" + "\n".join(places)
