"""What every metric must hold, by the registry: being listed is being tested."""

import math
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from PIL import Image

import evalkit
from evalkit import metrics, set_metrics
from evalkit.errors import UserError
from evalkit.metric_spec.metric_card import REDUCTION, MetricCard, by_name, metric, pick
from evalkit.metric_spec.set_metric import SetMetric
from evalkit.metric_spec.signature import ModelRecipe, sign
from evalkit.metrics import METRICS
from evalkit.set_metrics import SET_METRICS
from evalkit.weights.lookup import NO_WEIGHTS, Source, find
from tests.evalkit.conftest import picture

# Models of 23 to 62 million parameters: their metrics are run by test_golden and test_quality, and loaded here.
LARGE = {"arniqa", "dbcnn", "lpips", "musiq", "nima", "tres"}
# These compare images of a run; test_golden runs them in one.
OF_A_RUN = {name for name, card in METRICS.items() if card.needs not in ("image", "prompt", "references")}
RUNNABLE = [name for name, card in METRICS.items() if card.model not in LARGE and name not in OF_A_RUN]


def test_the_metrics_that_these_laws_leave_out_are_counted():
    assert len(OF_A_RUN) == 16, "golden values test the metrics that need a run; change the count if yours has some"
    assert {name for name in METRICS if name not in RUNNABLE} - OF_A_RUN == LARGE - {"lpips"}


@pytest.mark.parametrize(
    ("package", "kind", "registry"), [(metrics, MetricCard, METRICS), (set_metrics, SetMetric, SET_METRICS)]
)
def test_every_metric_of_a_file_is_listed(package, kind, registry):
    listed = list(registry.values())
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        cards = [card for card in vars(import_module(module.name)).values() if isinstance(card, kind)]
        unlisted = [card.name for card in cards if card not in listed]
        assert not unlisted, f"{module.name}: {unlisted} not listed; import and list them in {package.__name__}/__init__.py"


@pytest.mark.parametrize("name", METRICS)
def test_every_registered_metric_loads(name, every_weights):
    """A listed metric whose first line raises fails here, whatever the size of its net."""
    card = METRICS[name]
    model = card.load(find(card.weights, every_weights) if card.weights else NO_WEIGHTS, "cpu")
    assert card.signature(model.recipe).split("|")[0] == name
    assert any(hasattr(model, kind) for kind in ("features", "compare", "judge", "detect"))


@pytest.mark.parametrize("card", METRICS.values(), ids=lambda card: card.name)
def test_a_card_says_all_that_a_reader_needs(card):
    assert evalkit.metric(card.name) is card
    assert card.summary.endswith(".")
    assert card.source
    assert card.licence
    assert card.unit
    assert card.direction in ("higher", "lower", "none")
    assert card.needs in REDUCTION
    low, high = card.limits
    assert low is None or high is None or low < high
    if card.weights is not None:
        assert card.weights.hub.count("/") == 1
        assert card.weights.files


def test_metrics_are_listed_in_their_order():
    assert evalkit.list_metrics() == list(METRICS)
    assert [card.name for card in pick(METRICS, ["piqe", "clip_t", "piqe"])] == ["clip_t", "piqe"]


def test_an_unknown_metric_is_answered_with_a_guess_and_the_list():
    with pytest.raises(UserError, match=r"no metric 'clipt'; did you mean 'clip_t'\? Known: clip_t, clip_i"):
        evalkit.metric("clipt")


def test_a_name_clash_raises():
    with pytest.raises(ValueError, match="two metrics are called 'piqe'"):
        by_name(METRICS["piqe"], METRICS["piqe"])


def test_two_meanings_of_one_models_name_raise():
    @metric(direction="higher", unit="u", limits=(None, None), source="s", weights=Source("clip", "a/b", ("c",), "MIT"))
    def mine(weights, device):
        """Measure something."""

    with pytest.raises(ValueError, match="'mine': another metric already means other weights by 'clip'"):
        by_name(METRICS["clip_t"], mine)


def test_a_metric_without_docstring_or_licence_raises():
    with pytest.raises(ValueError, match="needs a licence"):
        metric(direction="higher", unit="u", limits=(None, None), source="s")
    with pytest.raises(ValueError, match="needs a docstring"):

        @metric(direction="higher", unit="u", limits=(None, None), source="s", licence="none")
        def silent(weights, device):
            return None


def test_a_user_adds_a_metric_with_one_function():
    class Brightness:
        recipe = ModelRecipe("brightness", "", "native-size", "fp32", ())
        largest_batch = 8
        smallest_side = 1

        def prepare(self, pixels):
            return torch.from_numpy(pixels.array().transpose(2, 0, 1).copy())

        def features(self, batch):
            return batch.float().mean(dim=(1, 2, 3)).reshape(-1, 1).numpy()

    @metric(direction="none", unit="level", limits=(0.0, 255.0), source="this test", licence="none")
    def brightness(weights, device):
        """Measure the mean of all pixels."""
        return Brightness()

    rows = evalkit.score([Image.new("RGB", (9, 9), (10, 20, 30)), picture(1)], [brightness])
    assert rows[0].value == 20
    assert rows[0].signature.startswith("brightness|brightness|no-weights|native-size|fp32|score|")


# NIQE needs 96 pixels on each side
SIZE = (128, 112)


def scores(names, weights, images, **options):
    """Return rows of any of the runnable metrics."""
    return evalkit.score(
        images, names, prompts="a photo of red star", references=[picture(50), picture(51)], weights=weights, **options
    )


def test_scores_are_finite_within_limits_and_name_their_recipe(every_weights):
    for row in scores(RUNNABLE, every_weights, [picture(seed, SIZE) for seed in range(4)]):
        low, high = METRICS[row.metric].limits
        assert math.isfinite(row.value)
        assert low is None or low <= row.value
        assert high is None or row.value <= high
        assert row.signature.split("|")[0] == row.metric
        assert row.direction == METRICS[row.metric].direction


def test_order_and_batch_size_change_no_score(every_weights):
    weights = every_weights
    images = [picture(seed, SIZE) for seed in range(5)]
    forward = {(row.image_sha256, row.metric): row.value for row in scores(RUNNABLE, weights, images)}
    backward = {(row.image_sha256, row.metric): row.value for row in scores(RUNNABLE, weights, images[::-1], batch_size=1)}
    assert forward.keys() == backward.keys()
    for key, value in forward.items():
        assert backward[key] == pytest.approx(value, abs=1e-5, rel=1e-6)


def test_no_metric_touches_the_global_generators(every_weights):
    weights = every_weights
    torch.manual_seed(3)
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 -- the global state is the point
    scores(RUNNABLE, weights, [picture(1, SIZE)])
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_encoder_gives_the_same_signature_for_the_same_recipe_only(name, every_weights):
    card = METRICS[name]

    def signature(device: str) -> str:
        return card.signature(card.load(find(card.weights, every_weights) if card.weights else NO_WEIGHTS, device).recipe)

    assert signature("cpu") == signature("cpu")
    assert "|torch" in signature("cpu")


def test_another_recipe_has_another_signature():
    recipe = ModelRecipe("m", "a" * 64, "p", "fp32", ("lib1",))
    lines = {
        sign("x", recipe, "cos"),
        sign("y", recipe, "cos"),
        sign("x", recipe, "score"),
        sign("x", ModelRecipe("n", "a" * 64, "p", "fp32", ("lib1",)), "cos"),
        sign("x", ModelRecipe("m", "b" * 64, "p", "fp32", ("lib1",)), "cos"),
        sign("x", ModelRecipe("m", "a" * 64, "q", "fp32", ("lib1",)), "cos"),
        sign("x", ModelRecipe("m", "a" * 64, "p", "fp16", ("lib1",)), "cos"),
        sign("x", ModelRecipe("m", "a" * 64, "p", "fp32", ("lib2",)), "cos"),
        sign("x", ModelRecipe("m", "a" * 64, "p", "fp32", ("lib1",), revision=2), "cos"),
        sign("x", recipe, "cos", revision=2),
    }
    assert len(lines) == 10
    with pytest.raises(ValueError, match=r"contains .\|."):
        sign("x|y", recipe, "cos")


def test_a_new_release_changes_no_signature_and_no_cache_key(monkeypatch):
    """Neither evalkit's version nor a commit is part of them: an upgrade keeps columns together and caches full."""
    from evalkit.metric_spec import signature

    recipe = ModelRecipe("m", "a" * 64, "p", "fp32", ())
    before = sign("x", recipe, "cos"), recipe.key
    monkeypatch.setattr(signature, "version", lambda _: "99.0")
    assert signature.package_version("lora-evalkit") == "99.0"
    assert (sign("x", recipe, "cos"), recipe.key) == before
