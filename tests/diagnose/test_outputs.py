"""LoRAs' outputs while drawing, against literal sums over what the layers were called with."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer import Typer
from typer.testing import CliRunner

from generation.diagnose.command import diagnose
from generation.diagnose.layer_outputs import input_crosstalk, output_overlaps
from generation.experiment import ArmSpec
from generation.experiment_file import read_experiment
from generation.merge.setup import module_of
from generation.pipeline import load_pipeline
from generation.sampler import ImageRequest, Sampler
from tests.tiny import adapted, save_peft_lora, save_sdxl

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

EXPERIMENT = """
name = "two"
base = { model = "base" }
sampling = { steps = 2, guidance = 2.0, width = 16, height = 16 }
cases_from = { choose = 2, template = "{0} {1}", seeds = 1 }
arms = [
    { label = "direct", method = "direct" },
    { label = "half", method = "fedavg" },
    { label = "ties", method = "ties" },
    { label = "apart", method = "orthogonal_mc_dropout" },
    { label = "fixed", method = "orthogonal_mc_dropout", parameters = { preset = "static" } },
    { label = "switch", method = "lora_switch" },
]
"""
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    pipeline = load_pipeline(save_sdxl(folder / "base"))
    save_peft_lora(folder / "star.safetensors", adapted(pipeline, r"to_[kqv]$|conv1$"), rank=4, seed=1)
    save_peft_lora(folder / "moon.safetensors", adapted(pipeline, r"to_[kv]$|conv1$"), rank=2, seed=3)
    text = EXPERIMENT
    for name in ("star", "moon"):
        text += f'[[concepts]]\nname = "{name}"\nwords = "{name}"\nclass_word = "{name}"\nadapter = "{name}.safetensors"\n'
    (folder / "two.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def sampler(place: Path) -> Sampler:
    return Sampler(read_experiment(place / "two.toml", place), place, torch.device("cpu"))


def arm_of(sampler: Sampler, label: str) -> ArmSpec:
    return next(arm for arm in sampler.experiment.arms if arm.label == label)


def inputs_of(sampler: Sampler, layer: str, arm: ArmSpec, concepts: tuple[str, ...], prompt: str) -> dict[int, Tensor]:
    """Draw, and return what a layer read in each step, token by token."""
    read: dict[int, list[Tensor]] = defaultdict(list)

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        read[sampler.state.step()].append(args[0].flatten(0, -2))

    (case,) = sampler.experiment.cases
    hook = module_of(sampler.pipeline, layer).register_forward_pre_hook(keep)
    with sampler.merged(arm, concepts):
        sampler.generate([ImageRequest(case.model_copy(update={"prompt": prompt}), case.seeds[0])])
    hook.remove()
    return {step: torch.cat(parts) for step, parts in read.items()}


def test_outputs_are_those_of_dense_changes(sampler: Sampler):
    (case,) = sampler.experiment.cases
    met, strong = output_overlaps(sampler, arm_of(sampler, "half"), case)
    weight = module_of(sampler.pipeline, LAYER).weight
    changes = [sampler.lora(name).part(LAYER).dense() for name in ("moon", "star")]
    for step, x in inputs_of(sampler, LAYER, arm_of(sampler, "half"), case.concepts, case.prompt).items():
        moon, star = (x @ change.T for change in changes)
        inner = (moon * star).sum(1)
        (row,) = [row for row in met if (row.layer, row.step) == (LAYER, step)]
        assert (row.first, row.second) == ("moon", "star")
        found = (row.mean_inner, row.max_inner, row.cosine)
        expected = (inner.abs().mean(), inner.abs().max(), inner.sum() / moon.norm() / star.norm())
        assert found == pytest.approx([float(value) for value in expected], rel=1e-3, abs=1e-6)
        (norms,) = [row for row in strong if (row.layer, row.step) == (LAYER, step)]
        plain, whole = (x @ weight.T).norm(), (moon + star).norm()
        values = (norms.before, norms.after, norms.together)
        wanted = (whole / plain, whole / 2 / plain, whole / (moon.norm() + star.norm()))
        assert values == pytest.approx([float(value) for value in wanted], rel=1e-3)


@pytest.mark.parametrize("label", ["direct", "half", "ties", "apart", "fixed", "switch"])
def test_looking_on_changes_no_image(sampler: Sampler, label: str, monkeypatch: pytest.MonkeyPatch):
    (case,) = sampler.experiment.cases
    cell = ImageRequest(case, case.seeds[0])
    with sampler.merged(arm_of(sampler, label), case.concepts):
        (expected,) = sampler.generate([cell])
    drawn = []
    draw = sampler.generate
    monkeypatch.setattr(sampler, "generate", lambda cells: drawn.extend(draw(cells)))
    met, strong = output_overlaps(sampler, arm_of(sampler, label), case)
    assert abs(drawn[0].astype(int) - expected.astype(int)).max() <= 1
    layers = {name for concept in case.concepts for name in sampler.lora(concept).factors}
    assert {row.layer for row in strong} == layers
    assert {row.step for row in strong} == {0, 1}
    if label in ("apart", "fixed", "switch"):
        assert {row.max_inner for row in met} == {0.0}
    else:
        assert all(row.mean_inner > 0 for row in met)
    if label == "direct":
        assert all(row.after == pytest.approx(row.before, rel=1e-3, abs=1e-6) for row in strong)


def test_crosstalk_is_that_of_the_inputs_of_one_concepts_image(sampler: Sampler):
    (case,) = sampler.experiment.cases
    found = {(row.layer, row.drawn, row.acting): row for row in input_crosstalk(sampler, case)}
    alone = ArmSpec(label="alone", method="direct")
    x = torch.cat(list(inputs_of(sampler, LAYER, alone, ("moon",), "moon").values()))
    moon, star = (x @ sampler.lora(name).part(LAYER).dense().T for name in ("moon", "star"))
    row = found[LAYER, "moon", "star"]
    assert row.crosstalk == pytest.approx(float(star.norm() / moon.norm()), rel=1e-3)
    shared = set.intersection(*(set(sampler.lora(name).factors) for name in case.concepts))
    # moon does not adapt to_q, so nothing says how much of its own image is moon's there
    assert {layer for layer, drawn, _ in found if drawn == "moon"} == shared


def test_the_command_tells_arms_apart(place: Path, tmp_path: Path):
    app = Typer()
    app.command()(diagnose)
    result = CliRunner().invoke(app, [str(place / "two.toml"), "--out", str(tmp_path), "--outputs", "--device", "cpu"])
    assert result.exit_code == 0, result.exception
    assert {"output_overlap.csv", "output_overlap.svg", "strengths.csv", "strengths.svg", "crosstalk.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
    rows = list(csv.DictReader((tmp_path / "output_overlap.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["arm"] for row in rows if float(row["max_inner"]) == 0} == {"apart", "fixed", "switch"}
    page = (tmp_path / "diagnosis.md").read_text(encoding="utf-8")
    assert "| apart | 0 | 0 | 0 |" in page
