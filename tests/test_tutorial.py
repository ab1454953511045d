"""docs/tutorial.md: its commands run as printed, from images to a report with a p-value."""

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
EVALKIT = Path(sys.executable).with_name("evalkit")


@pytest.mark.slow
def test_the_tutorial_runs_as_printed(tmp_path: Path):
    experiment, description = (textwrap.dedent(text) for text in re.findall(r"```toml[^\n]*\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "tutorial.toml").write_text(experiment)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert sum(line.startswith("evalkit ") for line in lines) >= 8
    for line in lines:
        if line.startswith("evalkit study serve"):
            continue  # a server until stopped; tests/test_readme.py opens it
        command = shlex.join([str(EVALKIT), *shlex.split(line)[1:]]) if line.startswith("evalkit ") else line
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if line.startswith("mkdir"):
            (tmp_path / "my_images" / "import.toml").write_text(description)
    report = (tmp_path / "runs" / "mine" / "report" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"p (=|&lt;|<) ?\.?\d", report)
