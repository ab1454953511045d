"""The caller's PyTorch state changes no bit of any score, and is the same afterwards."""

from contextlib import ExitStack, contextmanager
from operator import attrgetter

import numpy as np
import pytest
import torch

import evalkit
from evalkit.encoders.torch_state import PRECISION_NODES, exact
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.metric_card import metric
from evalkit.metric_spec.pixel_metric import Measure
from evalkit.metrics import METRICS
from evalkit.metrics.models import known_models
from evalkit.scoring.metric_models import load_models
from evalkit.scoring.model_calls import compare, encode, judge, prepare
from tests.evalkit.numbered_weights import numbered_image

# Their nets have 23 to 62 million parameters: `make slow` runs them.
LARGE = ("arniqa", "dbcnn", "inception", "lpips", "musiq", "nima", "tres")


@contextmanager
def matmul_precision(value):
    owners = [attrgetter(name)(torch.backends) for name in PRECISION_NODES]
    before = [owner.fp32_precision for owner in owners]
    torch.set_float32_matmul_precision(value)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        # "highest" is written as "ieee" where the state before may have been "none"
        for owner, precision in zip(owners, before, strict=True):
            owner.fp32_precision = precision


@contextmanager
def node(name, value):
    owner = attrgetter(name)(torch.backends)
    before = owner.fp32_precision
    owner.fp32_precision = value
    try:
        yield
    finally:
        owner.fp32_precision = before


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "medium": lambda: matmul_precision("medium"),
    "high": lambda: matmul_precision("high"),
    "mkldnn bf16": lambda: node("mkldnn.matmul", "bf16"),
    "float64": lambda: default_dtype(torch.float64),
    "meta": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
}


def state():
    """Return all that `exact` changes."""
    nodes = tuple(attrgetter(name)(torch.backends).fp32_precision for name in PRECISION_NODES)
    cudnn = torch.backends.cudnn
    return (
        nodes, torch.get_default_dtype(), str(torch.get_default_device()), torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(), cudnn.enabled, cudnn.benchmark, cudnn.deterministic,
    )  # fmt: skip


def outputs(name, weights):
    """Return what a model gives for two images, and for texts if it reads them."""
    cards = [card for card in (*METRICS.values(), *_set_metrics()) if card.model == name]
    if not cards:
        pytest.fail(f"no registered metric uses the model {name}")
    models, _ = load_models(cards[:1], weights, "cpu")
    model = models[name]
    size = (256, 240) if name == "tres" else (128, 112)
    inputs = [prepare(name, model, Pixels(numbered_image(f"state {index}", size))) for index in range(2)]
    if hasattr(model, "compare"):
        return [np.float64(compare(name, model, *inputs))]
    if hasattr(model, "detect"):
        return [judge(name, model, image, ("a star", "a heart")) for image in inputs]
    batch = inputs[: model.largest_batch]
    values = [encode(name, model, batch)]
    if hasattr(model, "texts"):
        with exact():
            values.append(model.texts(["a red star", "blue circle on green"]))
    return values


def _set_metrics():
    from evalkit.set_metrics import SET_METRICS

    return SET_METRICS.values()


MODELS = sorted({card.model for card in (*METRICS.values(), *_set_metrics())})


def test_every_model_is_either_run_here_or_named_as_large():
    assert set(LARGE) <= set(MODELS)
    assert set(MODELS) <= set(known_models())


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in MODELS])
def test_the_callers_state_changes_no_bit_of_any_model(name, every_weights):
    plain = outputs(name, every_weights)
    before = state()
    for title, enter in STATES.items():
        with enter():
            inside = state()
            changed = outputs(name, every_weights)
            assert state() == inside, title
        assert all(np.array_equal(one, other) for one, other in zip(plain, changed, strict=True)), title
    assert state() == before


def test_the_state_returns_after_an_error_too():
    before = state()
    with pytest.raises(ZeroDivisionError), exact():
        raise ZeroDivisionError
    assert state() == before


def test_the_last_thread_to_leave_restores_the_process_state():
    before = state()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(exact())
        second.enter_context(torch.inference_mode())
        with exact():
            pass
        assert {attrgetter(name)(torch.backends).fp32_precision for name in PRECISION_NODES} == {"ieee"}
    assert state() == before


def test_a_metric_of_ones_own_runs_in_the_fixed_state_too():
    seen = []

    def look(pixels):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_default_dtype()))
        return float(pixels.mean())

    @metric(direction="none", unit="u", limits=(None, None), source="s", licence="none")
    def mine(weights, device):
        """Look at the state."""
        return Measure("mine", look)

    with torch.autocast("cpu", torch.bfloat16), default_dtype(torch.float64):
        evalkit.score([numbered_image("one", (32, 32))], [mine])
    assert seen == [(False, torch.float32)]
