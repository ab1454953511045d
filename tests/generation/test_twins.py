"""The papers' experiments and their twins at toy size: each reads and plans, and the recipes train what the arms ask for."""

from pathlib import Path

import pytest

from generation.experiment import Experiment
from generation.experiment_file import read_experiment
from generation.schedule import plan_work
from generation.shipped_files import shipped
from generation.train.series import read_recipes

TWINS = {name: path for name, path in shipped("experiments").items() if name.startswith("tinyworld")}
TRAINED = {name: read_recipes(path) for name, path in shipped("recipes").items()}


@pytest.fixture
def folder(tmp_path: Path, data: Path) -> Path:
    """A folder that has every LoRA the shipped recipes train, as empty files, and the real references."""
    for name, recipes in TRAINED.items():
        for lora in recipes:
            path = tmp_path / "loras" / name / f"{lora}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    # the twins on other base models merge LoRAs that evalkit has no recipes for
    for name in ("flux_dev", "sd35_large", "qwen_image"):
        (tmp_path / "loras" / name).mkdir()
        for subject in (data / "dreambooth").iterdir():
            (tmp_path / "loras" / name / f"{subject.name}.safetensors").touch()
    (tmp_path / "dreambooth").symlink_to(data / "dreambooth")
    return tmp_path


def read(name: str, folder: Path) -> Experiment:
    return read_experiment(shipped("experiments")[name], folder)


@pytest.mark.parametrize("name", shipped("experiments"))
def test_every_shipped_experiment_reads_and_plans(name: str, folder: Path) -> None:
    experiment = read(name, folder)
    assert experiment.name == name
    planned = sum(len(item.requests) for item in plan_work(experiment, ()))
    assert planned == len(experiment.arms) * sum(len(case.seeds) for case in experiment.cases)


@pytest.mark.parametrize("name", ["blocklora", "tinyworld_blocklora"])
def test_blocklora_merges_up_to_all_fifteen(name: str, folder: Path) -> None:
    """Zhu et al. 2025, Tables 1 and 3, Figure 5: 15 concepts, the identity of one while 1 to 15 are merged."""
    experiment = read(name, folder)
    assert len(experiment.concepts) == 15
    assert {len(case.merged) for case in experiment.cases} >= {1, 2, 5, 10, 15}
    methods = {arm.method for arm in experiment.arms}
    assert methods >= {"fedavg", "gradient_fusion", "orthogonal_adaptation", "blocklora"}
    slots = [recipe.blocks.slot for lora, recipe in TRAINED[name].items() if lora.startswith("blocklora/") and recipe.blocks]
    assert slots == list(range(15))


@pytest.mark.parametrize("name", ["noise_consistency", "tinyworld_noise_consistency"])
def test_noise_consistency_has_the_paper_s_weights(name: str, folder: Path) -> None:
    """Ni et al. 2025, sections 5.2, 5.3 and 5.6: 10 prompts x 4 images per concept, lambda 0.5, sigma 0.2, beta 1000."""
    experiment = read(name, folder)
    per_concept = len(experiment.cases) // len(experiment.concepts)
    assert (per_concept, {len(case.seeds) for case in experiment.cases}) == (10, {4})
    assert [arm.label for arm in experiment.arms] == ["dreambooth", "ours", "dreambooth_dco", "ours_dco"]
    recipes = {lora.split("/")[0]: recipe for lora, recipe in TRAINED[name].items()}
    ours, both = recipes["ours"], recipes["ours_dco"]
    assert ours.consistency is not None
    assert both.dco is not None
    assert (ours.consistency.prior, ours.consistency.subject, ours.consistency.sigma) == (0.5, 0.5, 0.2)
    assert (both.dco.beta, ours.rank, ours.prior_weight, recipes["dreambooth"].prior_weight) == (1000.0, 4, 0.0, 1.0)
    assert both.consistency == ours.consistency
    additive = recipes["additive"].consistency
    assert additive is not None
    assert additive.noise == "additive"
