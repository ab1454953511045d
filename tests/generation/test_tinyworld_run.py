"""Tinyworld's own weights under the merges: outputs of two LoRAs never meet, and a run draws anywhere."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evalkit.run.manifest import Manifest
from generation.experiment import Experiment
from generation.experiment_file import read_experiment
from generation.merge.setup import module_of
from generation.run import generate
from generation.sampler import ImageRequest, Sampler
from generation.shipped_files import shipped
from generation.tinyworld.concepts import CONCEPTS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """The shipped experiment with one pair, one seed and three steps."""
    whole = read_experiment(shipped("experiments")["tinyworld"])
    case = whole.cases[0].model_copy(update={"seeds": (0, 1, 2)})
    sampling = whole.sampling.model_copy(update={"steps": 3})
    concepts = tuple(whole.concept(name) for name in case.concepts)
    return whole.model_copy(update={"cases": (case,), "sampling": sampling, "concepts": concepts})


def test_the_shipped_experiment_says_what_tinyworld_says() -> None:
    whole = read_experiment(shipped("experiments")["tinyworld"])
    assert len(whole.concepts) >= 8
    assert len(whole.cases) == len(list(combinations(whole.concepts, 2)))
    for concept in whole.concepts:
        assert concept.words == CONCEPTS[concept.name].words
        assert concept.class_word.endswith(CONCEPTS[concept.name].class_word)


def test_every_call_of_every_adapted_layer_keeps_outputs_apart_exactly(experiment: Experiment) -> None:
    sampler = Sampler(experiment, Path(), CPU)
    arm = next(arm for arm in experiment.arms if arm.method == "orthogonal_mc_dropout")
    calls: Counter[str] = Counter()
    kept: Counter[tuple[str, int]] = Counter()
    elements: Counter[tuple[str, int]] = Counter()

    def look(layer: str, outputs: list[Tensor], gains: list[Tensor]) -> None:
        calls[layer] += 1
        for one, other in combinations([y * gain for y, gain in zip(outputs, gains, strict=True)], 2):
            assert torch.count_nonzero(one * other) == 0
        for place, gain in enumerate(gains):
            kept[layer, place] += int(gain.count_nonzero())
            elements[layer, place] += gain.numel()

    (case,) = experiment.cases
    with sampler.merged(arm, case.concepts, observe=look):
        sampler.generate([ImageRequest(case, 0), ImageRequest(case, 1)])
    sampler.close()
    layers = {layer for name in case.concepts for layer in sampler.lora(name).factors}
    assert set(calls) == layers
    assert all(calls[layer] % 3 == 0 for layer in layers if layer.startswith("unet."))
    # hundreds of layers are looked at, so single ones may lie a little beyond 4 standard errors
    errors = [(kept[key] / count - 0.5) / (0.5 / count**0.5) for key, count in elements.items()]
    assert max(abs(error) for error in errors) < 5
    assert sum(kept.values()) / sum(elements.values()) == pytest.approx(0.5, abs=2 / sum(elements.values()) ** 0.5)


def test_the_mean_over_masks_is_direct(experiment: Experiment) -> None:
    sampler = Sampler(experiment, Path(), CPU)
    (case,) = experiment.cases
    layer = min(layer for layer in sampler.lora(case.concepts[0]).factors if layer.endswith("attn2.to_q"))
    module = module_of(sampler.pipeline, layer)
    count = 600
    x = torch.randn(1, 4, module.in_features, generator=torch.Generator().manual_seed(0))
    outputs = {}
    with torch.no_grad():
        for arm in experiment.arms:
            with sampler.merged(arm, case.concepts):
                sampler.state.begin(range(count))
                outputs[arm.method] = module(x.expand(count, -1, -1))
    sampler.close()
    for method in ("mc_dropout", "orthogonal_mc_dropout"):
        spread = outputs[method].std(0).clamp_min(1e-7) / count**0.5
        assert ((outputs[method].mean(0) - outputs["direct"][0]).abs() / spread).max().item() < 5


def test_a_run_of_tinyworld_is_the_same_at_any_batch_size(experiment: Experiment, tmp_path: Path) -> None:
    runs: list[Manifest] = [
        generate(experiment, tmp_path / str(size), Path(), device="cpu", batch_size=size) for size in (1, 3)
    ]
    assert len(runs[0].images) == 9
    assert runs[0].images == runs[1].images
    assert len(runs[0].concepts[0].references) == 5
