"""README's promises: its commands run as written, and its links lead somewhere."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from evalkit.distribution import REPOSITORY as REPOSITORY_URL

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
EVALKIT = str(Path(sys.executable).with_name("evalkit"))

EXPERIMENT = """
name = "mine"

[base]
model = "tinyworld"

[sampling]
steps = 2
guidance = 4.0
width = 64
height = 64

[weights]
clip = "tinyworld"
dino = "tinyworld"

[[concepts]]
name = "{0}"
words = "{1}"
class_word = "a {2}"
adapter = "tinyworld"
references = "tinyworld"

[[concepts]]
name = "{3}"
words = "{4}"
class_word = "a {5}"
adapter = "tinyworld"
references = "tinyworld"

[[arms]]
label = "direct"
method = "direct"

[[arms]]
label = "orthogonal"
method = "orthogonal_mc_dropout"
parameters = {{ p = 0.5 }}

[[cases]]
id = "pair"
concepts = ["{0}", "{3}"]
prompt = "{1} and {4} on a grey background"
seeds = [0]
"""


def commands(block: str) -> list[list[str]]:
    """Return the command lines of the shell block that contains `block`, without their comments."""
    found = next(text for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if block in text)
    return [shlex.split(line, comments=True) for line in found.splitlines() if line.strip()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str, process: subprocess.Popen[str], seconds: float = 40) -> bool:
    """Return whether the server answers before it ends or the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    return False


def test_the_five_steps_run_as_written(tmp_path: Path):
    from generation.tinyworld.concepts import CONCEPTS

    first, second = list(CONCEPTS.values())[:2]
    (tmp_path / "my_experiment.toml").write_text(
        EXPERIMENT.format(first.name, first.words, first.class_word, second.name, second.words, second.class_word)
    )
    for words in commands("my_experiment.toml"):
        assert words[0] == "evalkit"
        if words[1:3] == ["study", "serve"]:
            port = free_port()
            serve = [EVALKIT, *words[1:], "--port", str(port)]
            process = subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            try:
                there = answers(f"http://127.0.0.1:{port}/", process)
            finally:
                process.terminate()
                output, _ = process.communicate(timeout=30)
            assert there, output
            continue
        done = subprocess.run([EVALKIT, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        if words[1] == "score":
            # the quality metrics' weights are on a hub that tests don't reach: said, and the exit code says so
            assert done.returncode == 1, done.stderr
            assert "musiq" in done.stderr + done.stdout
        else:
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "runs" / "mine" / "report" / "report.html").stat().st_size > 10_000


def test_the_library_call_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from generation.tinyworld import weights_folder

    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(weights_folder()))
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", code[1] + "\nassert len(rows) == 4, rows"], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_make_knows_the_two_commands():
    make = shutil.which("make")
    assert make is not None
    for words in commands("make demo"):
        done = subprocess.run([make, "--dry-run", words[1]], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_links_lead_to_files():
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            own = re.match(rf"{re.escape(REPOSITORY_URL)}/(?:blob|tree)/main/(.+)", target)
            if own is not None:
                assert (REPOSITORY / own[1]).exists(), f"{page.name} links to {target}, which is not in the repository"
            elif not target.startswith(("http", "mailto:")):
                assert page != REPOSITORY / "README.md", f"{target}: a relative link does not work on an index page"
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_project_urls_are_those_of_the_readme():
    urls = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Source"] == REPOSITORY_URL
    assert all(url.startswith(REPOSITORY_URL) for url in urls.values())
    assert f"git clone {REPOSITORY_URL} " in README
