"""The wheel, installed with each extra alone: its files, every command's --help, and one real call of every command."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
COMMANDS: dict[str, str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "entry-points"
]["evalkit.commands"]
# The command's call in a folder that holds `run` (imported), `small.toml` and `recipe.toml`. What has `serve` in it would never
# end, so its call is one that ends before it serves.
CALLS = {
    "import": ["import", "images", "--run", "imported"],
    "sheet": ["sheet", "run", "sheet.png"],
    "metrics": ["metrics"],
    "doctor": ["doctor"],
    "weights": ["weights", "list"],
    "score": ["score", "run", "--metrics", "arm_psnr"],
    "sets": ["sets", "run", "--metrics", "kid", "--against", "images"],
    "methods": ["methods"],
    "generate": ["generate", "small.toml", "--run", "generated"],
    "merge": ["merge", "small.toml", "--arm", "direct", "--case", "pair", "--out", "merged.safetensors"],
    "diagnose": ["diagnose", "small.toml", "--out", "diagnosis"],
    "train": ["train", "recipe.toml", "--out", "trained.safetensors"],
    "import-votes": ["import-votes", "votes.csv", "--run", "run", "--db", "sqlite:///votes.db"],
    "import-scores": ["import-scores", "scores.csv", "--run", "run"],
    "export": ["export", "run"],
    "analyze": ["analyze", "run"],
    "paper": ["paper", "blocklora", "run"],
    "plan": ["plan", "--concepts", "6", "--simulate", "0"],
    "study": ["study", "init", "run"],
    "pool": ["pool", "missing.zip", "other.zip"],
    "explore": ["explore", "missing_run"],
    "judge": ["judge", "missing_run", "--model", "m", "--endpoint", "http://127.0.0.1:9/v1"],
    "run": ["run", "small.toml", "--run", "whole"],
    "demo": ["demo", "--run", "demo", "--participants", "5"],
}
# The extra that each command needs; None: it works without any.
NEEDS = {
    **dict.fromkeys(("import", "sheet", "metrics", "doctor", "weights"), None),
    **dict.fromkeys(("methods", "generate", "merge", "diagnose", "train"), "generation"),
    **dict.fromkeys(("import-votes", "import-scores", "export", "analyze", "paper", "plan"), "analysis"),
    **dict.fromkeys(("study", "explore", "judge", "pool"), "study"),
    **dict.fromkeys(("run", "demo"), "all"),
    "score": "metrics",
    "sets": "sets",
}
# Calls that fail for another reason than an absent extra, with what their error line says.
REFUSED = {"explore": "missing_run", "judge": "missing_run", "pool": "missing.zip", "sets": "not compared"}
# `study` brings all that `analysis` does.
INCLUDED = {"study": {"study", "analysis"}}
# Calls that another extra is enough for: `study init` and `pool` need a database, `methods` what metrics need,
# PSNR torch alone, a plan without a simulation scipy alone.
ENOUGH = {
    "study": {"analysis"},
    "pool": {"analysis"},
    "methods": {"metrics"},
    "score": {"generation"},
    "plan": {"generation", "metrics"},
}
RECIPE = """
concept = "star"
base = "tinyworld"
references = "images/pair/direct"
prompt = "a V star"
class_prompt = "a star"
size = 64
prior_images = 0
rank = 2
steps = 1
batch = 1
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what git tracks, as a clone would."""
    source = tmp_path_factory.mktemp("source") / "evalkit"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(source)], check=True)
    out = source.parent / "dist"
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(words, check=True, capture_output=True)
    (file,) = out.glob("lora_evalkit-*.whl")
    return file


def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    packages = ("evalkit", "generation", "db", "analysis", "study_app")
    tracked = subprocess.run(["git", "ls-files", *packages], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert files == {name for name in tracked.stdout.splitlines() if not name.endswith((".gitignore", ".gitattributes"))}
    assert {f"{package}/py.typed" for package in packages} <= files
    assert "generation/tinyworld/weights/CARD.md" in files
    assert wheel.stat().st_size < 25_000_000
    assert "Name: lora-evalkit" in metadata
    # relative links lead nowhere on an index page
    assert not [line for line in metadata.splitlines() if "](" in line and "](http" not in line]


def make_folder(folder: Path) -> None:
    """Write images to import, an experiment and a recipe."""
    from tests.test_readme import EXPERIMENT

    for arm, colour in (("direct", "red"), ("other", "blue")):
        for seed in range(2):
            file = folder / "images" / "pair" / arm / f"{seed}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), colour).save(file)
    (folder / "images" / "import.toml").write_text(
        'name = "mine"\n[[concepts]]\nname = "star"\nwords = "V star"\nclass_word = "star"\n'
        '[[cases]]\nid = "pair"\nconcepts = ["star"]\nprompt = "a V star"\n'
    )
    from generation.tinyworld.concepts import CONCEPTS

    first, second = list(CONCEPTS.values())[:2]
    (folder / "small.toml").write_text(
        EXPERIMENT.format(first.name, first.words, first.class_word, second.name, second.words, second.class_word)
    )
    (folder / "recipe.toml").write_text(RECIPE)
    rows = [f"p{number},pair,{number % 2},direct,other,direct" for number in range(4)]
    (folder / "votes.csv").write_text("\n".join(["participant,case,seed,arm_left,arm_right,chosen_arm", *rows]) + "\n")
    rows = [f"sharpness,higher,pair,{seed},{arm},{seed}.5" for arm in ("direct", "other") for seed in range(2)]
    (folder / "scores.csv").write_text("\n".join(["metric,direction,case,seed,arm,value", *rows]) + "\n")


@pytest.mark.parametrize("extra", [None, "analysis", "study", "metrics", "generation"])
def test_every_command_runs_or_names_its_extra(wheel: Path, extra: str | None, tmp_path: Path):
    assert CALLS.keys() == NEEDS.keys() == COMMANDS.keys()
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python, evalkit = environment / "bin" / "python", environment / "bin" / "evalkit"
    target = f"lora-evalkit[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    constraints = str(REPOSITORY / "constraints.txt")
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", constraints, target]
    subprocess.run(install, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    folder = tmp_path / "work"
    folder.mkdir()
    make_folder(folder)
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([evalkit, *words], cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, f"{words}: {done.stderr}"
        return done

    assert call("--version").stdout.startswith("evalkit ")
    assert call("import", "images", "--run", "run").returncode == 0
    wrong = []
    for name, words in CALLS.items():
        assert call(name, "--help").returncode == 0, name
        done = call(*words)
        needed = NEEDS[name]
        if needed in {None, extra} | INCLUDED.get(extra or "", set()) or extra in ENOUGH.get(name, set()):
            code, text = (1, REFUSED[name]) if name in REFUSED else (0, "")
        else:
            code, text = 1, f"run: pip install 'lora-evalkit[{needed}]'"
        if done.returncode != code or text not in done.stderr:
            wrong.append(f"{words}: exit {done.returncode}, not {code} with {text!r}: {done.stdout[-500:]}{done.stderr[-500:]}")
    assert not wrong, "\n".join(wrong)
