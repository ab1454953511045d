"""Constraints files for pip: the committed lock, and the lowest versions that pyproject.toml allows.

    python .ci/constraints.py lock REPORT    # of `pip install --dry-run --ignore-installed --report REPORT`
    python .ci/constraints.py lowest         # of the bounds in pyproject.toml

Both print a constraints file. It names versions only: no index, no machine path, no local version such as +cpu, so it holds for
every index and for CPU and GPU builds of torch alike.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
DISTRIBUTION = "lora-evalkit"
# Extras whose tools check the code but never run in it: their oldest versions say nothing about a user's installation.
TOOLS = ("test", "docs")
# Brought by the environment itself, and by build isolation.
NOT_LOCKED = (DISTRIBUTION, "pip", "setuptools", "wheel")


def canonical(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(report: Path) -> dict[str, str]:
    """Return the versions of a pip installation report by name, without their local parts."""
    installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {canonical(item["metadata"]["name"]): item["metadata"]["version"].partition("+")[0] for item in installs}
    return {name: version for name, version in versions.items() if name not in NOT_LOCKED}


def lowest(pyproject: Path = PYPROJECT) -> dict[str, str]:
    """Return the lower bound of every direct dependency by name; of several bounds the highest."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    direct = [*project["dependencies"], *(line for extra, lines in extras if extra not in TOOLS for line in lines)]
    bounds: dict[str, str] = {}
    for line in direct:
        bound = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*>=([0-9.]+)", line)
        if bound is None:
            if canonical(line.partition("[")[0]) == DISTRIBUTION:
                continue
            raise SystemExit(f"pyproject.toml: {line!r} has no lower bound; write it as NAME>=VERSION")
        name, version = canonical(bound[1]), bound[2]
        if numbers(version) > numbers(bounds.get(name, "0")):
            bounds[name] = version
    return bounds


def numbers(version: str) -> tuple[int, ...]:
    """Return a release as numbers that compare."""
    return tuple(int(part) for part in version.split("."))


def main(words: list[str]) -> None:
    """Print the constraints file that the command line asks for."""
    if words[:1] == ["lock"] and len(words) == 2:
        versions, origin = locked(Path(words[1])), "make lock"
    elif words == ["lowest"]:
        versions, origin = lowest(), "python .ci/constraints.py lowest"
    else:
        raise SystemExit(__doc__)
    sys.stdout.write(f"# Written by `{origin}`.\n")
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
