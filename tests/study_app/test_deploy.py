"""What docs/deploy.md ships: a lock without torch, and a Dockerfile that finds its files."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "docs" / "deploy"


def name(requirement: str) -> str:
    return re.split(r"[\[<>=;\s]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_the_lock_holds_what_the_study_extra_names_with_hashes_and_no_torch() -> None:
    locked = {name(line) for line in (DEPLOY / "study.lock").read_text().splitlines() if line[:1].isalpha()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["analysis"], *extras["study"], *extras["postgres"]]
    assert {name(each) for each in wanted} - {"evalkit"} <= locked
    assert not [package for package in locked if package.startswith(("torch", "diffusers", "transformers", "nvidia"))]
    entries = re.split(r"(?m)^(?=[a-z])", (DEPLOY / "study.lock").read_text())[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_dockerfile_copies_what_is_there_and_never_runs_as_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"(?m)^COPY (.*)$", text) for word in line.split()[:-1]]
    assert len(sources) >= 6
    assert all((REPOSITORY / source).exists() for source in sources)
    assert text.index("USER study") < text.index("CMD [")
