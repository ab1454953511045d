"""The smallest twin from end to end: trained for a step, drawn in two, scored, and printed as the paper's tables."""

import pytest

from analysis.papers import blocklora
from analysis.papers.script import main
from evalkit.scoring.run_scorer import score_run
from generation.experiment_file import read_experiment
from generation.run import generate
from generation.shipped_files import shipped
from generation.tinyworld import weights_folder
from generation.train.series import read_recipes, train_series

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

CONCEPTS = ("face_star", "swirl_disc")
VARIANTS = ("dreambooth", "blocklora", "orthogonal_adaptation")
TWIN = """
name = "small"
like = "tinyworld_blocklora"

[sampling]
steps = 2
guidance = 4.0
width = 64
height = 64

[cases_from]
choose = 1
merged = [1, 2]
template = "a photo of {0}"
seeds = 1
"""
CONCEPT = """
[[concepts]]
name = "{0}"
words = "{1}"
class_word = "{2}"
adapter = "loras/dreambooth/{0}.safetensors"
references = "tinyworld"
"""
ARM = """
[[arms]]
label = "{0}"
method = "{1}"
adapters = "loras/{0}"
"""


def test_the_blocklora_twin_goes_from_recipes_to_the_paper_s_tables(tmp_path, capsys):
    recipes = read_recipes(shipped("recipes")["tinyworld_blocklora"])
    short = {"steps": 1, "prior_images": 1, "prior_steps": 1}
    wanted = {
        tmp_path / "loras" / f"{variant}/{concept}.safetensors": recipes[f"{variant}/{concept}"].model_copy(update=short)
        for variant in VARIANTS
        for concept in CONCEPTS
    }
    train_series(wanted, tmp_path, tmp_path / "prior", "cpu", 1, lambda line: None)
    concepts = [CONCEPT.format(name, recipes[f"dreambooth/{name}"].prompt, f"a {name.split('_')[1]}") for name in CONCEPTS]
    arms = [ARM.format(variant, "direct" if variant == "dreambooth" else variant) for variant in VARIANTS]
    (tmp_path / "small.toml").write_text("".join([TWIN, *concepts, *arms]))
    run = tmp_path / "run"
    manifest = generate(read_experiment(tmp_path / "small.toml"), run, tmp_path, device="cpu")
    assert len(manifest.images) == 2 * 2 * 3
    score_run(run, ["clip_i", "clip_t"], weights={"clip": weights_folder() / "clip"})
    assert main("blocklora", blocklora.parts, [str(run)]) == 0
    printed = capsys.readouterr().out
    assert "Of the images with all 2 concepts merged." in printed
    figure = printed.split("Identity against the number of merged concepts")[1]
    assert [line.split("|")[1].strip() for line in figure.splitlines() if line.startswith("| ") and line[2].isdigit()] == [
        "1",
        "2",
    ]
