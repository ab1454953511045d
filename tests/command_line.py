"""Commands as a person types them, for tests of what they say."""

import sys

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


def check_line(error: str, said: tuple[str, ...]) -> None:
    """Check that the last thing said is one error line with all of `said` in it, and no traceback."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    for words in said:
        assert words in lines[0], lines[0]
