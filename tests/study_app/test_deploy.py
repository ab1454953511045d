"""What docs/deploy.md ships: a lock without torch, a Dockerfile that finds its files, a server that serves as it does there."""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.runs import make_run

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "docs" / "deploy"


def name(requirement: str) -> str:
    return re.split(r"[\[<>=;\s]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_the_lock_holds_what_the_study_extra_names_with_hashes_and_no_torch() -> None:
    locked = {name(line) for line in (DEPLOY / "study.lock").read_text().splitlines() if line[:1].isalpha()}
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project, build = pyproject["project"], pyproject["build-system"]["requires"]
    extras = project["optional-dependencies"]
    wanted = [*build, *project["dependencies"], *extras["analysis"], *extras["study"], *extras["postgres"]]
    assert {name(each) for each in wanted} - {"lora-evalkit"} <= locked
    assert not [package for package in locked if package.startswith(("torch", "diffusers", "transformers", "nvidia"))]
    entries = re.split(r"(?m)^(?=[a-z])", (DEPLOY / "study.lock").read_text())[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_dockerfile_copies_what_is_there_and_never_runs_as_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"(?m)^COPY (.*)$", text) for word in line.split()[:-1]]
    assert len(sources) >= 6
    assert all((REPOSITORY / source).exists() for source in sources)
    assert text.index("USER study") < text.index("CMD [")
    # what isn't let through to the builder can't be copied
    through = [
        line.removeprefix("!") for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    assert through == sources


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def test_a_server_for_the_network_asks_nobody_outside_and_makes_its_last_copy_when_it_is_told_to_stop(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, arms=("plain", "fancy"), scores=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from evalkit.cli.main import main; main()", "study", "serve", str(run)]
    with socket.create_server(("127.0.0.1", 0)) as outside:
        way_out = f"http://127.0.0.1:{outside.getsockname()[1]}"
        with subprocess.Popen(
            [*command, "--host", "0.0.0.0", "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"http_proxy": way_out, "https_proxy": way_out, "no_proxy": ""},
        ) as server:
            end = time.monotonic() + 60
            while server.poll() is None and not answers(f"http://127.0.0.1:{port}/healthz") and time.monotonic() < end:
                time.sleep(0.1)
            server.terminate()
            # a container is killed ten seconds after it was told
            said, _ = server.communicate(timeout=10)
        outside.setblocking(False)
        with pytest.raises(BlockingIOError):
            outside.accept()
    assert server.returncode == 0
    assert len(list((run / "study" / "backups").glob("served-*.db"))) == 1
    # that init was not run, the sample size, how to change it, and where people go
    lines = said.splitlines()
    assert len(lines) == 4
    assert "`evalkit study init` was not run" in lines[0]
    assert f"http://localhost:{port}/" in lines[3]
