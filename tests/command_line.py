"""Commands as a person types them, for tests of what they print."""

import json
import sys
from typing import Any

import pytest

from evalkit.cli import main as cli


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Return the exit code of `evalkit WORDS`, and all it said; where it failed, what it said on standard error."""
    monkeypatch.setattr(sys, "argv", ["evalkit", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    code = stopped.value.code
    said = capsys.readouterr()
    return (int(code), said.err) if code else (0, said.out + said.err)


def json_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """Return what a command prints on standard output with --json, parsed."""
    monkeypatch.setattr(sys, "argv", ["evalkit", *map(str, words), "--json"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    printed = capsys.readouterr()
    assert not exit_.value.code, printed.err
    return json.loads(printed.out)


def check_line(error: str, said: tuple[str, ...]) -> None:
    """Check that the last thing said is one error line with all of `said` in it, and no traceback."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    for words in said:
        assert words in lines[0], lines[0]
