"""Presets: the numbers other tools make of the same cosines, named in every signature and never mixed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import evalkit
from evalkit.encoders.dino import DINO_S8, load_dino_s8
from evalkit.errors import UserError
from evalkit.metric_spec.cosine_convention import Convention
from evalkit.metric_spec.signature import preset_of
from evalkit.metrics import METRICS
from evalkit.metrics.preset_conversion import convert
from evalkit.metrics.presets import PRESETS, with_preset
from evalkit.run.score_table import read_scores
from evalkit.scoring.run_scorer import score_run
from evalkit.weights.lookup import Weights
from tests.evalkit.conftest import picture
from tests.evalkit.tiny_encoders import save_tiny_dino

PROMPT = "a photo of red star"
NAMES = ["clip_t", "clip_i", "dino"]
IMAGES = [picture(seed) for seed in range(4)]
SHOWN = [picture(50), picture(51), picture(52)]


@pytest.fixture(scope="module")
def all_weights(weights, tmp_path_factory):
    """Return the tiny encoders, DINO with small patches among them."""
    return {**weights, "dino_s8": save_tiny_dino(tmp_path_factory.mktemp("s8") / "dino", seed=7)}


@pytest.fixture(scope="module")
def scored(all_weights):
    """Return rows of every preset."""
    return {
        preset: evalkit.score(IMAGES, NAMES, prompts=PROMPT, references=SHOWN, preset=preset, weights=all_weights)
        for preset in PRESETS
    }


def values(rows, metric: str) -> np.ndarray:
    """Return one metric's values."""
    return np.array([row.value for row in rows if row.metric == metric])


def test_the_laws_between_scales_hold(scored, all_weights):
    plain = values(scored["dreambooth"], "clip_t")
    assert values(scored["custom_diffusion"], "clip_t") == pytest.approx(2.5 * np.maximum(plain, 0))
    assert values(scored["torchmetrics"], "clip_t") == pytest.approx(100 * plain)
    assert values(scored["dreambench_plus_plus"], "clip_t") == pytest.approx(100 * plain)
    (longer,) = {f"A photo depicts {PROMPT}"}
    depicts = evalkit.score(IMAGES, ["clip_t"], prompts=longer, weights=all_weights)
    assert values(scored["clipscore"], "clip_t") == pytest.approx(2.5 * np.maximum(values(depicts, "clip_t"), 0))
    assert values(scored["clipscore"], "clip_t") != pytest.approx(values(scored["custom_diffusion"], "clip_t"), abs=1e-9)


def test_dreambench_reads_one_reference_and_another_dino(scored, all_weights):
    first = evalkit.score(IMAGES, NAMES, prompts=PROMPT, references=SHOWN[:1], weights=all_weights)
    assert values(scored["dreambench_plus_plus"], "clip_i") == pytest.approx(100 * values(first, "clip_i"))
    other = {**all_weights, "dino": all_weights["dino_s8"]}
    small = evalkit.score(IMAGES, ["dino"], references=SHOWN[:1], weights=other)
    assert values(scored["dreambench_plus_plus"], "dino") == pytest.approx(100 * values(small, "dino"))
    encoder = load_dino_s8(Weights((), "", "none"), "cpu")
    assert (encoder.recipe.model, encoder.recipe.preparation) == ("vit_small_patch8_224", "pil-bicubic-256-center-224")
    assert DINO_S8.hub == "timm/vit_small_patch8_224.dino"


def test_every_signature_says_its_preset_and_no_two_presets_share_one(scored):
    seen = {}
    for preset, rows in scored.items():
        for row in rows:
            said = preset_of(row.signature)
            assert said == (preset if row.metric in PRESETS[preset] else "dreambooth")
            seen.setdefault(row.signature, set()).add(said)
    assert all(len(presets) == 1 for presets in seen.values())
    assert "|2.5*max(cos,0)-of:A photo depicts...|preset:clipscore|" in scored["clipscore"][0].signature
    (line,) = {row.signature for row in scored["dreambench_plus_plus"] if row.metric == "clip_i"}
    assert "|100*cos-first-ref|preset:dreambench_plus_plus|" in line


def test_what_no_preset_concerns_keeps_its_signature():
    for preset in PRESETS:
        (card,) = with_preset([METRICS["piqe"]], preset)
        assert card is METRICS["piqe"]


def test_an_unknown_preset_is_answered_with_a_guess_and_the_list(weights):
    with pytest.raises(UserError, match=r"no preset 'torchmetric'; did you mean 'torchmetrics'\? Known: dreambooth, custom_d"):
        evalkit.score(IMAGES, ["clip_t"], prompts=PROMPT, preset="torchmetric", weights=weights)


def test_converted_scores_are_those_that_scoring_again_gives(scored):
    for one, other in [("dreambooth", "torchmetrics"), ("torchmetrics", "dreambooth"), ("dreambooth", "custom_diffusion")]:
        rows = [row for row in scored[one] if row.metric == "clip_t"]
        again = [row for row in scored[other] if row.metric == "clip_t"]
        converted = convert(rows, other)
        assert [row.signature for row in converted] == [row.signature for row in again]
        assert values(converted, "clip_t") == pytest.approx(values(again, "clip_t"))


def test_the_converter_refuses_what_is_more_than_a_scale(scored):
    def rows(preset, metric, number=4):
        return [row for row in scored[preset] if row.metric == metric][:number]

    with pytest.raises(UserError, match="scores of the presets dreambooth and torchmetrics are mixed"):
        convert([*rows("dreambooth", "clip_t"), *rows("torchmetrics", "clip_t")], "dreambooth")
    with pytest.raises(UserError, match="clip_t: dreambooth and clipscore differ in the text"):
        convert(rows("dreambooth", "clip_t"), "clipscore")
    with pytest.raises(UserError, match="clip_i: dreambooth and dreambench_plus_plus differ in the references; score again"):
        convert(rows("dreambooth", "clip_i"), "dreambench_plus_plus")
    with pytest.raises(UserError, match=r"dino: .* differ in the references and the net"):
        convert(rows("dreambooth", "dino"), "dreambench_plus_plus")
    with pytest.raises(UserError, match="dino: is not of the preset torchmetrics, which has clip_t"):
        convert(rows("dreambooth", "dino"), "torchmetrics")
    clamped = [replace(row, value=0.0) for row in rows("custom_diffusion", "clip_t", 1)]
    with pytest.raises(UserError, match="it is 0, to which every negative cosine was clamped"):
        convert(clamped, "dreambooth")
    assert convert(clamped, "custom_diffusion") == clamped


@given(st.floats(-1, 1), st.sampled_from([1.0, 2.5, 100.0]), st.booleans())
def test_a_convention_keeps_order_and_can_be_undone_above_0(cosine, factor, clamped):
    convention = Convention(factor=factor, clamped=clamped)
    score = convention.score(cosine)
    assert score >= convention.score(-1)
    assert score == convention.factor * (max(cosine, 0) if clamped else cosine)
    if cosine > 0 and score > 0:
        assert convention.cosine(score) == pytest.approx(cosine)


def test_a_run_scored_under_another_preset_has_its_rows_replaced_and_nothing_encoded_again(run, weights):
    from evalkit.cli.score import score as command

    places = [f"--weights={name}={path}" for name, path in weights.items()]
    import typer

    app = typer.Typer()
    app.command()(command)
    score_run(run, ["clip_t", "clip_i"], weights=weights)
    plain = {(row.case, row.arm, row.seed): row.value for row in read_scores(run) if row.metric == "clip_t"}
    result = CliRunner().invoke(app, [str(run), "--metrics", "clip_t", "--preset", "torchmetrics", *places])
    assert result.exit_code == 0, result.output
    assert "0 images decoded" in result.output
    rows = read_scores(run)
    assert {preset_of(row.signature) for row in rows if row.metric == "clip_t"} == {"torchmetrics"}
    assert {preset_of(row.signature) for row in rows if row.metric == "clip_i"} == {"dreambooth"}
    for row in rows:
        if row.metric == "clip_t":
            assert row.value == pytest.approx(100 * plain[row.case, row.arm, row.seed])
