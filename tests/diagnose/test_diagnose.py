"""The diagnosis of LoRAs and latents, against dense matrices and literal sums."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator
from typer import Typer
from typer.testing import CliRunner

from evalkit.errors import UserError
from evalkit.metric_spec.histograms import EDGES, density
from generation.diagnose import latent_divergence as latents
from generation.diagnose.command import diagnose
from generation.diagnose.pairwise_overlap import pairs
from generation.diagnose.scale_audit import scales
from generation.diagnose.sign_conflicts import by_chance, sign_conflicts
from generation.lora.factors import Lora
from generation.lora.lora_file import load_lora
from generation.pipeline import Pipeline, load_pipeline
from generation.train.orthogonal_basis import basis_rows, slot_rows
from tests.command_line import json_of
from tests.runs import make_run
from tests.tiny import adapted, save_kohya_lora, save_peft_lora, save_sdxl

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

EXPERIMENT = """
name = "three"
base = { model = "base" }
sampling = { steps = 1, guidance = 1.0, width = 16, height = 16 }
cases_from = { choose = 2, template = "{0} {1}", seeds = 1 }
arms = [
    { label = "direct", method = "direct" },
    { label = "half", method = "fedavg" },
    { label = "masked", method = "mc_dropout" },
]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnose")
    pipeline = load_pipeline(save_sdxl(folder / "base"))
    attention = adapted(pipeline)
    save_peft_lora(folder / "star.safetensors", attention, rank=4, seed=1)
    save_kohya_lora(folder / "ring.safetensors", {**attention, **adapted(pipeline, r"conv1$")}, ranks=(4, 8, 16), seed=2)
    save_peft_lora(folder / "moon.safetensors", adapted(pipeline, r"to_[kv]$"), rank=2, seed=3)
    text = EXPERIMENT
    for name in ("star", "ring", "moon"):
        text += f'[[concepts]]\nname = "{name}"\nwords = "{name}"\nclass_word = "{name}"\nadapter = "{name}.safetensors"\n'
    (folder / "three.toml").write_text(text)
    rng = np.random.default_rng(0)
    for kind, reach in (("prior", 255), ("drawn", 90)):
        (folder / kind).mkdir()
        for number in range(3):
            Image.fromarray(rng.integers(0, reach, (16, 16, 3), np.uint8)).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def pipeline(place: Path) -> Pipeline:
    return load_pipeline(place / "base")


@pytest.fixture(scope="module")
def loras(place: Path, pipeline: Pipeline) -> dict[str, Lora]:
    return {name: load_lora(place / f"{name}.safetensors", pipeline) for name in ("star", "ring", "moon")}


def test_pairs_are_those_of_dense_matrices(loras: dict[str, Lora]):
    found = pairs(loras)
    shared = {(a, b): loras[a].factors.keys() & loras[b].factors.keys() for a, b in itertools.combinations(loras, 2)}
    assert len(found) == sum(len(layers) for layers in shared.values())
    for pair in found:
        a, b = (loras[name].part(pair.layer).dense().double().flatten(1) for name in (pair.first, pair.second))
        assert pair.cosine == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), abs=1e-6)
        assert pair.crosstalk == pytest.approx(float((a @ b.T).norm() / a.norm() / b.norm()), abs=1e-6)
        for rows, overlap in (((a, b), pair.input_overlap), ((a.T, b.T), pair.output_overlap)):
            bases = [torch.linalg.svd(matrix)[2][: torch.linalg.matrix_rank(matrix, rtol=1e-5)] for matrix in rows]
            expected = ((bases[0] @ bases[1].T) ** 2).sum() / min(len(basis) for basis in bases)
            assert overlap == pytest.approx(float(expected), abs=1e-5)


def test_a_lora_is_its_own_twin_and_orthogonal_rows_have_no_crosstalk(loras: dict[str, Lora]):
    for pair in pairs({"one": loras["moon"], "other": loras["moon"]}):
        assert (pair.cosine, pair.input_overlap, pair.output_overlap) == pytest.approx((1, 1, 1))
    apart = {}
    for slot in (0, 1):
        factors = {
            layer: type(part)(basis_rows(part.down.shape[1], slot_rows(slot, 2, part.down.shape[1])), part.up)
            for layer, part in loras["moon"].factors.items()
        }
        apart[str(slot)] = Lora(loras["moon"].path, "", factors, loras["moon"].scales)
    for pair in pairs(apart):
        assert max(abs(pair.cosine), pair.input_overlap, pair.crosstalk) < 1e-6
        assert pair.output_overlap == pytest.approx(1)


def test_sign_conflicts_are_counted_entry_by_entry(loras: dict[str, Lora], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("generation.diagnose.sign_conflicts.ENTRIES", 500)
    layers = sorted(set.intersection(*(set(lora.factors) for lora in loras.values())))
    found = {row.count: row for row in sign_conflicts(list(loras.values()), orders=6)}
    dense = [torch.cat([lora.part(layer).dense().flatten().double() for layer in layers]) for lora in loras.values()]

    def literal(chosen: list[torch.Tensor]) -> tuple[float, float]:
        rows = torch.stack(chosen)
        both = ((rows > 0).any(0) & (rows < 0).any(0)).double().mean()
        return float(both), 1 - float(rows.sum(0).abs().sum() / rows.abs().sum())

    assert (found[3].conflicting, found[3].cancelled) == pytest.approx(literal(dense), abs=1e-6)
    of_two = [literal(list(two)) for two in itertools.combinations(dense, 2)]
    assert min(pair[0] for pair in of_two) <= found[2].conflicting <= max(pair[0] for pair in of_two)


def test_independent_numbers_conflict_by_chance():
    values = torch.randn(10, 200_000, generator=Generator().manual_seed(0))
    for count in (2, 5, 10):
        some = values[:count]
        conflicting = float(((some > 0).any(0) & (some < 0).any(0)).float().mean())
        cancelled = 1 - float(some.sum(0).abs().sum() / some.abs().sum())
        assert (conflicting, cancelled) == pytest.approx(by_chance(count), abs=0.005)
    assert [round(by_chance(count)[0], 4) for count in (2, 5, 10)] == [0.5, 0.9375, 0.998]


def test_an_alpha_that_diffusers_loses_is_found(loras: dict[str, Lora], pipeline: Pipeline):
    # ring has alpha = rank in every layer, so every scale is 1; diffusers keeps one alpha for layers of ranks 4, 8 and 16
    ring = scales("ring", loras["ring"], pipeline)
    assert {row.scale for row in ring} == {1.0}
    assert any(row.differs for row in ring)
    assert not any(row.differs for row in scales("star", loras["star"], pipeline))
    one = ring[0]
    weight = dict(pipeline.unet.named_parameters()) | {f"x.{k}": v for k, v in pipeline.text_encoder.named_parameters()}
    assert len(weight) > 0
    layer = next(row for row in ring if row.layer.startswith("unet."))
    base = weight[f"{layer.layer.removeprefix('unet.')}.weight"].double().norm()
    assert layer.strength == pytest.approx(float(loras["ring"].part(layer.layer).dense().double().norm() / base), rel=1e-5)
    assert one.rank in (4, 8, 16)


def test_histograms_and_divergences_are_literal_sums(place: Path, pipeline: Pipeline):
    drawn, prior = (latents.latent_counts(pipeline, sorted((place / kind).iterdir())) for kind in ("drawn", "prior"))
    assert drawn.shape == (3, 4, 202)
    # every value is in some bin: 8 x 8 latents of 16 px images
    assert drawn.sum(2).tolist() == [[64.0] * 4] * 3
    rows = latents.divergences("images", drawn, prior)
    assert [row.channel for row in rows] == ["all", "0", "1", "2", "3"]
    sides = []
    for counts in (drawn, prior):
        shares = [counts[:, :, place].sum() / counts.sum() + 1e-6 for place in range(202)]
        sides.append([share / sum(shares) for share in shares])
    p, q = sides
    forward = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    reverse = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    shannon = sum(a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b)) for a, b in zip(p, q, strict=True)) / 2
    assert (rows[0].forward, rows[0].reverse, rows[0].jensen_shannon) == pytest.approx((forward, reverse, shannon))

    def divergence(one: list[int], other: list[int]) -> float:
        p, q = (density(counts[kept].sum((0, 1))) for counts, kept in ((drawn, one), (prior, other)))
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    every = [0, 1, 2]
    variance = 0.0
    for without in (
        [divergence([i for i in every if i != left], every) for left in every],
        [divergence(every, [i for i in every if i != left]) for left in every],
    ):
        variance += 2 / 3 * sum((value - sum(without) / 3) ** 2 for value in without)
    reach = 1.96 * math.sqrt(variance)
    assert (rows[0].low, rows[0].high) == pytest.approx((max(0, forward - reach), forward + reach))
    same = latents.divergences("images", prior, prior)[0]
    assert (same.forward, same.reverse, same.jensen_shannon) == (0, 0, 0)


def test_a_run_is_compared_arm_by_arm_and_its_references_are_left_out(place: Path, tmp_path: Path):
    make_run(tmp_path / "run", arms=("one", "two"), scores=False)
    make_run(tmp_path / "prior", arms=("base",), scores=False)
    app = Typer()
    app.command()(diagnose)
    sides = ["--images", str(tmp_path / "run"), "--prior", str(tmp_path / "prior")]
    result = CliRunner().invoke(app, [str(place / "three.toml"), "--out", str(tmp_path / "out"), *sides])
    assert result.exit_code == 0, result.exception
    rows = list(csv.DictReader((tmp_path / "out/latents.csv").read_text(encoding="utf-8").splitlines()))
    # three pairs of concepts, two seeds each
    assert [(row["of"], row["channel"], row["images"]) for row in rows] == [
        (arm, channel, "6") for arm in ("one", "two") for channel in ("all", "0", "1", "2", "3")
    ]


def test_latents_beyond_the_edges_are_counted():
    assert np.histogram([-9.0, -5.0, 0.0, 5.0, 7.0], EDGES)[0][[0, 1, -2, -1]].tolist() == [1, 1, 0, 2]


def test_the_command_writes_tables_figures_and_a_page(place: Path, tmp_path: Path):
    app = Typer()
    app.command()(diagnose)
    out = tmp_path / "out"
    given = [str(place / "three.toml"), "--out", str(out), "--images", str(place / "drawn"), "--prior", str(place / "prior")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.exception
    tables, figures = ("pairs", "signs", "energies", "scales", "latents"), ("cosines", "signs", "latents")
    expected = {f"{name}.csv" for name in tables} | {f"{name}.svg" for name in figures} | {"diagnosis.md"}
    assert {path.name for path in out.iterdir()} == expected
    page = (out / "diagnosis.md").read_text(encoding="utf-8")
    assert "Not measured, since they change while sampling: masked." in page
    rows = list(csv.DictReader((out / "energies.csv").read_text(encoding="utf-8").splitlines()))
    # shares of a half each: a quarter of the sum's energy
    assert [(row["arm"], float(row["of_sum"])) for row in rows] == [("direct", pytest.approx(1)), ("half", pytest.approx(0.25))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--case", "x"], "--case x: three has no such case; it has "),
        (["--images", "drawn"], "--images and --prior: give both, or neither"),
        (["--images", "drawn", "--prior", "none"], "contains no image"),
    ],
)
def test_what_cannot_be_diagnosed_is_said(place: Path, tmp_path: Path, options: list[str], message: str):
    app = Typer()
    app.command()(diagnose)
    options = [str(place / word) if word in ("drawn", "none") else word for word in options]
    result = CliRunner().invoke(app, [str(place / "three.toml"), "--out", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_a_divergence_lies_in_its_interval_though_few_images_make_rough_histograms():
    rng = np.random.default_rng(0)
    drawn, prior = (rng.multinomial(64, np.ones(202) / 202, (20, 4)).astype(float) for _ in range(2))
    for row in latents.divergences("direct", drawn, prior):
        assert row.low < row.forward < row.high


def test_one_image_has_no_interval():
    with pytest.raises(UserError, match="direct: one image has no interval; give two or more on both sides"):
        latents.divergences("direct", np.ones((1, 4, 202)), np.ones((1, 4, 202)))


def test_unequal_counts_are_refused():
    with pytest.raises(UserError, match="direct: 2 images against 3 prior images; give as many on both sides"):
        latents.divergences("direct", np.ones((2, 4, 202)), np.ones((3, 4, 202)))


def test_json_has_every_section_of_the_page(place: Path, tmp_path: Path, monkeypatch, capsys):
    diagnosis = json_of(monkeypatch, capsys, "diagnose", place / "three.toml", "--out", tmp_path / "out", "--device", "cpu")
    assert {"pairs", "signs", "energies", "scales"} == diagnosis["sections"].keys()
    page = (tmp_path / "out" / "diagnosis.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == len(diagnosis["sections"])
    assert {"first", "second", "cosine"} <= diagnosis["sections"]["pairs"]["rows"][0].keys()
