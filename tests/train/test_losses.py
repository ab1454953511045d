"""The terms of the loss, each held to a literal computation of its equation on a tiny UNet."""

import math
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file
from torch import Generator, Tensor

from evalkit.errors import UserError
from generation.lora.lora_file import load_lora
from generation.pipeline import Pipeline, load_pipeline
from generation.seeds import derived
from generation.train.adapters import add_adapters, without_adapters
from generation.train.losses import dco_loss, modulated, squared_error, wanted
from generation.train.objective import Objective, TrainingBatch
from generation.train.recipe import TrainingRecipe, read_recipe
from tests.train.conftest import Train, recipe_file

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_guess_of_any_kind_costs_nothing(kind: str):
    scheduler = DDPMScheduler(prediction_type=kind)
    clean, noise, when = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([0, 500, 999])
    target = wanted(scheduler, clean, noise, when)
    assert squared_error(target, target) == 0
    # the scheduler agrees on what the target means: it gets the clean latents back
    noisy = scheduler.add_noise(clean, noise, when)
    back = [scheduler.step(target[i : i + 1], int(t), noisy[i : i + 1]).pred_original_sample for i, t in enumerate(when[:2])]
    assert torch.allclose(torch.cat(back).clamp(-1, 1), clean[:2].clamp(-1, 1), atol=1e-2)


def test_an_unknown_prediction_type_is_refused():
    scheduler = DDPMScheduler(prediction_type="flow")
    with pytest.raises(ValueError, match="'flow'; known: epsilon"):
        wanted(scheduler, torch.zeros(1), torch.zeros(1), torch.zeros(1))


def test_noise_on_latents_multiplies_or_adds():
    clean = torch.linspace(-2, 2, 60_000).view(1, 4, 100, 150)
    drawn = torch.randn(clean.shape, generator=Generator().manual_seed(3))
    factor = modulated(clean, 0.2, "multiplicative", Generator().manual_seed(3)) / clean
    assert torch.allclose(factor, 1 + 0.2 * drawn, atol=1e-5)
    assert abs(float(factor.mean()) - 1) < 0.005
    assert abs(float(factor.std()) - 0.2) < 0.005
    assert torch.equal(modulated(clean, 0.2, "additive", Generator().manual_seed(3)), clean + 0.2 * drawn)


@pytest.mark.parametrize(("per", "beta"), [("sample", 1000.0), ("sample", 5.0), ("batch", 5.0)])
def test_dco_is_the_log_sigmoid_of_the_lead_over_the_base_model(per: str, beta: float):
    generator = Generator().manual_seed(0)
    guess, reference, target = (torch.rand(3, 4, 2, 2, generator=generator) for _ in range(3))

    def error(outcome: Tensor, row: int) -> float:
        return sum((float(a) - float(b)) ** 2 for a, b in zip(outcome[row].flatten(), target[row].flatten(), strict=True)) / 16

    leads = [error(guess, row) - error(reference, row) for row in range(3)]
    if per == "batch":
        leads = [sum(leads) / 3]
    expected = sum(math.log1p(math.exp(-abs(beta * lead))) + max(beta * lead, 0) for lead in leads) / len(leads)
    assert float(dco_loss(guess, reference, target, beta, per)) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]


def test_dco_at_the_base_model_pulls_with_half_of_beta():
    guess = torch.rand(2, 4, generator=Generator().manual_seed(0)).requires_grad_()
    target = torch.rand(2, 4, generator=Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(dco_loss(guess, guess.detach(), target, 10.0, "batch"), guess)
    (plain,) = torch.autograd.grad(squared_error(guess, target), guess)
    assert torch.allclose(slope, 10 * 0.5 * plain)


ALL_TERMS = "[consistency]\nprior = 0.3\nsubject = 0.7\nsigma = 0.4\n"


def _set_up(place: Path, folder: Path, lines: str) -> tuple[Pipeline, TrainingRecipe, TrainingBatch, dict[str, Tensor]]:
    """Return a pipeline with a LoRA that is not zero, a recipe, a batch of 2 + 2 rows, and its conditions for one row."""
    pipeline = load_pipeline(place / "base")
    recipe = read_recipe(recipe_file(folder, lines))
    generator = Generator().manual_seed(7)
    for weight in add_adapters(pipeline, recipe).unet:
        weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    clean, noise = (torch.randn(4, 4, 8, 8, generator=generator) for _ in range(2))
    told = {"states": torch.randn(1, 5, 32, generator=generator), "pooled": torch.randn(1, 16, generator=generator)}
    return pipeline, recipe, TrainingBatch(clean, noise, torch.tensor([10, 400, 700, 950]), ["s"] * 2 + ["p"] * 2, 2), told


def _ask(pipeline: Pipeline, told: dict[str, Tensor], noisy: Tensor, when: Tensor) -> Tensor:
    rows = len(noisy)
    added = {"text_embeds": told["pooled"].repeat(rows, 1), "time_ids": torch.full((rows, 6), 16.0)}
    states = told["states"].repeat(rows, 1, 1)
    guess: Tensor = pipeline.unet(noisy, when, encoder_hidden_states=states, added_cond_kwargs=added).sample
    return guess


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("", {"subject", "prior"}),
        (ALL_TERMS, {"subject", "prior_consistency", "subject_consistency"}),
        (ALL_TERMS + 'noise = "additive"\n[dco]\nbeta = 2.0\n', {"subject", "prior_consistency", "subject_consistency"}),
        ('[dco]\nbeta = 2.0\nper = "batch"\n', {"subject", "prior"}),
        ("prior_weight = 0.25\n[consistency]\nsubject = 0\n", {"subject", "prior", "prior_consistency"}),
        ("prior_images = 0\n[consistency]\nprior = 0\n", {"subject", "subject_consistency"}),
    ],
)
def test_the_sum_is_the_papers_written_out_row_by_row(place: Path, tmp_path: Path, lines: str, names: set[str]):
    pipeline, recipe, batch, told = _set_up(place, tmp_path, lines)
    if not recipe.uses_prior:
        batch = TrainingBatch(batch.clean[:2], batch.noise[:2], batch.when[:2], batch.prompts[:2], 2)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)

    def reference(noisy: Tensor, when: Tensor, prompts: list[str]) -> Tensor:
        with torch.no_grad(), without_adapters(pipeline):
            return _ask(pipeline, told, noisy, when)

    objective = Objective(recipe, scheduler, lambda noisy, when, prompts: _ask(pipeline, told, noisy, when), reference)
    terms = objective.terms(batch)
    assert set(terms) == names
    total = objective.total(terms).detach()

    # every row alone, noised by hand: z_t = a_t z + b_t eps
    base = load_pipeline(place / "base")
    kept = scheduler.alphas_cumprod[batch.when]
    drawn = torch.randn((2, 4, 8, 8), generator=Generator().manual_seed(derived("modulation", 0)))

    def noised(clean: Tensor, row: int) -> Tensor:
        return (kept[row].sqrt() * clean + (1 - kept[row]).sqrt() * batch.noise[row])[None]

    def f(model: Pipeline, clean: Tensor, row: int) -> Tensor:
        with torch.no_grad():
            return _ask(model, told, noised(clean, row), batch.when[row : row + 1])[0]

    def distance(a: Tensor, b: Tensor) -> float:
        return float(((a - b) ** 2).mean())

    guess = [f(pipeline, batch.clean[row], row) for row in range(len(batch.clean))]
    untouched = [f(base, batch.clean[row], row) for row in range(len(batch.clean))]
    errors = [distance(guess[row], batch.noise[row]) for row in range(2)]
    if recipe.dco is not None:
        leads = [error - distance(untouched[row], batch.noise[row]) for row, error in enumerate(errors)]
        leads = leads if recipe.dco.per == "sample" else [sum(leads) / 2]
        errors = [math.log(1 + math.exp(recipe.dco.beta * lead)) for lead in leads]
    expected = sum(errors) / len(errors)
    if recipe.prior_weight and recipe.uses_prior:
        expected += recipe.prior_weight * sum(distance(guess[row], batch.noise[row]) for row in (2, 3)) / 2
    if recipe.consistency is not None:
        if recipe.consistency.prior:
            expected += recipe.consistency.prior * sum(distance(guess[row], untouched[row]) for row in (2, 3)) / 2
        if recipe.consistency.subject:
            noise = recipe.consistency.sigma * drawn
            additive = recipe.consistency.noise == "additive"
            changed = batch.clean[:2] + noise if additive else batch.clean[:2] * (1 + noise)
            far = [distance(guess[row], f(pipeline, changed[row], row)) for row in range(2)]
            expected += recipe.consistency.subject * sum(far) / 2
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_the_guess_for_clean_latents_can_be_kept_still(place: Path, tmp_path: Path):
    slopes = {}
    for detach in ("true", "false"):
        pipeline, recipe, batch, told = _set_up(place, tmp_path, f"{ALL_TERMS}detach_clean = {detach}\n")
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        guesses: list[Tensor] = []

        def predict(noisy: Tensor, when: Tensor, prompts: list[str], seen: list[Tensor] = guesses) -> Tensor:
            seen.append(_ask(pipeline, told, noisy, when).detach().requires_grad_())  # noqa: B023 - called in this round
            return seen[-1]

        objective = Objective(recipe, scheduler, predict, lambda noisy, when, prompts: noisy)
        term = objective.terms(batch)["subject_consistency"]
        (slopes[detach],) = torch.autograd.grad(term, guesses[0])
    assert slopes["true"][:2].abs().max() == 0
    assert torch.equal(slopes["false"][:2], -slopes["false"][4:])
    assert torch.equal(slopes["true"][4:], slopes["false"][4:])


def test_switching_adapters_off_is_the_base_model_and_thaws_nothing(place: Path, tmp_path: Path):
    pipeline, _, batch, told = _set_up(place, tmp_path, "text_rank = 2")
    frozen = next(weight for name, weight in pipeline.unet.named_parameters() if "lora_A" in name)
    frozen.requires_grad_(False)
    with torch.no_grad(), without_adapters(pipeline):
        off = _ask(pipeline, told, batch.clean, batch.when)
    with torch.no_grad():
        assert torch.equal(off, _ask(load_pipeline(place / "base"), told, batch.clean, batch.when))
    assert not frozen.requires_grad
    assert all(w.requires_grad for name, w in pipeline.text_encoder.named_parameters() if "lora_" in name)


def test_every_loss_trains_on_both_architectures_and_no_two_train_the_same(place: Path, train_tiny: Train):
    losses = {
        "dreambooth": "",
        "ncr": "[consistency]",
        "dco": "prior_images = 0\n[dco]",
        "ncr-dco": "[consistency]\n[dco]",
    }
    files = [train_tiny(f"learning_rate = 1e-2\n{lines}", name) for name, lines in losses.items()]
    files.append(train_tiny("text_rank = 2\n[consistency]\n[dco]", "sd15", base="sd15"))
    contents = [load_file(file) for file in files]
    assert len({b"".join(tensor.numpy().tobytes() for tensor in content.values()) for content in contents}) == len(files)
    pipeline = load_pipeline(place / "sd15")
    pipeline.load_lora_weights(str(files[-1]))
    assert set(load_lora(files[-1], load_pipeline(place / "sd15")).scales.values()) == {1.0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("[consistency]\nsigma = 0", r"consistency\.sigma: must be greater than 0"),
        ("[consistency]\nlambda = 1", r"consistency\.lambda: unknown key"),
        ("[consistency]\nnoise = 'salt'", r"consistency\.noise: must be 'multiplicative' or 'additive'"),
        ("prior_images = 0\n[consistency]", r"consistency\.prior: requires prior images; set prior_images above 0"),
        ("[dco]\nbeta = -1", r"dco\.beta: must be greater than 0"),
        ("[dco]\nper = 'image'", r"dco\.per: must be 'sample' or 'batch'"),
    ],
)
def test_mistakes_in_a_loss_are_named(tmp_path: Path, lines: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(recipe_file(tmp_path, lines))
    assert "\n" not in str(caught.value)


def test_the_prior_term_is_dreambooths_or_the_consistency_one(tmp_path: Path):
    weight = {
        lines: read_recipe(recipe_file(tmp_path, lines)).prior_weight
        for lines in ("", "[dco]", "[consistency]", "prior_weight = 1\n[consistency]")
    }
    assert weight == {"": 1, "[dco]": 1, "[consistency]": 0, "prior_weight = 1\n[consistency]": 1}
