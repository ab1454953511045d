"""The front door: commands of other packages, whole and broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def broken_plugin(tmp_path: Path) -> Path:
    """Return a folder that holds an installed package whose command names a module that isn't there."""
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evalkit.commands]\nodd = odd_package.command:odd\n")
    return tmp_path


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


def test_a_kernel_that_nothing_asks_for_is_no_word_on_the_terminal():
    code = (
        "import logging, sys; from evalkit.cli.main import main; sys.argv = ['evalkit', '--help']\n"
        "try: main()\nexcept SystemExit: logging.getLogger('bitsandbytes.backends.cpu').warning('no kernel')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evalkit" in said.stdout
    assert "no kernel" not in said.stderr
