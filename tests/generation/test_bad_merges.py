"""What odd LoRAs, settings and samplers get: the right answer that the docs state, or one line that says what is wrong."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evalkit.errors import UserError
from generation.experiment_file import read_experiment
from generation.families.stable_diffusion import SDXL
from generation.lora.factors import Factors, Lora
from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora, at_work
from generation.pipeline import Pipeline, load_pipeline
from tests.merging import INPUTS, as_trained, lora_parts, merged
from tests.tiny import adapted, save_peft_lora
from tests.unet import unet_inputs

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
# Methods that need two LoRAs, in two roles or in blocks of their own.
PAIRS = ("np_lora", "k_lora", "ziplora", "b_lora")


@torch.no_grad()
def guess(pipeline: Pipeline, method: str, loras: list[WeightedLora]) -> Tensor:
    """Return the denoiser's guess under a merge, and see that it takes its leave."""
    found, state = MERGE_METHODS[method], SamplingState(pipeline)
    quick = {"calibration_steps": 1} if found.acts_on == "calibrated" else {}
    quick |= {"updates": 1} if method == "ziplora" else {}
    quick |= {"p": 0.5} if method == "orthogonal_mc_dropout" else {}
    blocks: Mapping[str, Any] = {"blocks": ["unet"] * len(loras)} if method == "b_lora" else {}
    try:
        with Merge(found, found.settings({**quick, **blocks}), seed=0).applied(pipeline, as_trained(method, loras), state):
            state.begin([1])
            guess: Tensor = pipeline.unet(**unet_inputs([1])).sample
            assert torch.isfinite(pipeline.text_encoder(torch.arange(10)[None])[0]).all()
        return guess
    finally:
        state.close()


@pytest.fixture(scope="module")
def odd(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, list[WeightedLora]]:
    """Two LoRAs that have next to nothing in common: layers, ranks, number formats, components."""
    folder, pipeline = tmp_path_factory.mktemp("odd"), load_pipeline(world / "sdxl")
    one = save_peft_lora(folder / "one.safetensors", adapted(pipeline, r"to_[qv]$|q_proj$"), rank=5, seed=1)
    unet = {name: layer for name, layer in adapted(pipeline, r"conv1$|to_q$|proj_in$").items() if name.startswith("unet.")}
    other = save_peft_lora(folder / "other.safetensors", unet, rank=2, seed=2)
    for path, dtype in ((one, torch.float16), (other, torch.bfloat16)):
        save_file({key: value.to(dtype) for key, value in load_file(path).items()}, path)
    return pipeline, [WeightedLora(load_lora(path, pipeline), 1.0, n, "x") for n, path in enumerate((one, other))]


@pytest.mark.parametrize("method", MERGE_METHODS)
def test_layers_ranks_formats_and_components_may_differ(method: str, odd: tuple[Pipeline, list[WeightedLora]]) -> None:
    pipeline, loras = odd
    assert {part.down.dtype for one in loras for part in one.lora.factors.values()} == {torch.float16, torch.bfloat16}
    components = [{name.partition(".")[0] for name in one.lora.factors} for one in loras]
    assert components[0] > components[1] == {"unet"}
    assert torch.isfinite(guess(pipeline, method, loras)).all()


@pytest.mark.parametrize("method", [name for name in MERGE_METHODS if name not in PAIRS])
def test_one_lora_is_a_merge_too(method: str, odd: tuple[Pipeline, list[WeightedLora]]) -> None:
    pipeline, (one, _) = odd
    assert torch.isfinite(guess(pipeline, method, [one])).all()


@pytest.mark.parametrize("method", PAIRS)
def test_methods_for_two_say_so_where_there_is_one(method: str) -> None:
    found = MERGE_METHODS[method]
    assert found.check is not None
    with pytest.raises(ValueError, match=r"merges (2|1) LoRAs") as caught:
        found.check(1, found.settings({}))
    assert "\n" not in str(caught.value)


# One LoRA given twice, in multiples of its change; methods that are not listed depend on entries or on chance.
TWICE = {
    "direct": 2, "cat": 2, "svd": 2, "fedavg": 1, "mix_of_show": 1, "tsv": 1, "block_rows": 2, "b_lora": 2,
    "orthogonal_adaptation": 1.2, "sce": 1, "karcher": 1,
}  # fmt: skip


@pytest.mark.parametrize("method", [name for name, found in MERGE_METHODS.items() if found.acts_on == "weights"])
def test_the_same_lora_twice(method: str) -> None:
    (part,) = lora_parts((3,))
    if method == "blocklora":
        loras = {place: told(SLOT, part, place) for place in (0, 1)}
        with pytest.raises(UserError, match=r"slot 2 is taken by 0\.safetensors and 1\.safetensors"):
            MERGE_METHODS[method].function([part, part], Layer(LAYER, 0, [1.0, 1.0], (0, 1), loras))
        return
    more = {"blocks": ["unet", "unet"]} if method == "b_lora" else {}
    change, times = merged(method, [part, part], **more), TWICE.get(method)
    assert torch.isfinite(change).all()
    if times is not None:
        assert torch.allclose(change, times * part.dense(), atol=1e-4)


@pytest.mark.parametrize("method", [name for name, found in MERGE_METHODS.items() if found.acts_on != "weights"])
def test_the_same_lora_twice_in_a_model(method: str, odd: tuple[Pipeline, list[WeightedLora]]) -> None:
    pipeline, (one, _) = odd
    twice = guess(pipeline, method, [one, WeightedLora(one.lora, 1.0, 1, "x")])
    assert torch.isfinite(twice).all()
    # taking turns with oneself, or being the mean of oneself twice, is being alone
    if method in ("lora_switch", "lora_composite", "k_lora"):
        assert torch.allclose(twice, guess(pipeline, "lora_switch", [one]), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_a_factor_that_is_no_number_is_named(value: float, factor: str, sdxl: Pipeline, tmp_path: Path) -> None:
    path = save_peft_lora(tmp_path / "bad.safetensors", adapted(sdxl, "to_q$"), rank=2, seed=0)
    state = load_file(path)
    state[next(name for name in state if factor in name)].view(-1)[3] = value
    save_file(state, path)
    with pytest.raises(UserError, match=rf"bad\.safetensors: .*{factor}\.weight: contains NaN or infinity"):
        load_lora(path, sdxl)


def told(notes: Mapping[str, Any], part: Factors, place: int) -> Lora:
    header = {f"evalkit.{key}": json.dumps(value) for key, value in notes.items()}
    return Lora(Path(f"{place}.safetensors"), "", {LAYER: part}, {LAYER: 1.0}, header)


SLOT = {"slot": 2, "slots": 4, "block_rule": "strided"}
BASIS = {"basis": {"rows": "slots", "slot": 0, "sha256": {str(INPUTS): "same"}}}
OTHER_WIDTH = {"basis": {"rows": "slots", "slot": 1, "sha256": {str(INPUTS + 4): "same"}}}
TRAINED: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any], str]] = {
    "a slot twice": ("blocklora", SLOT, SLOT, "slot 2 is taken by 0.safetensors and 1.safetensors; a slot holds one concept"),
    "no slot": ("blocklora", SLOT, {}, "1.safetensors: the header has no evalkit.slot, so this LoRA"),
    "a basis of another width": ("orthogonal_adaptation", BASIS, OTHER_WIDTH, f"has no basis of {INPUTS} inputs"),
    "a basis twice": ("orthogonal_adaptation", BASIS, BASIS, "slot 0 is taken by 0.safetensors and 1.safetensors"),
    "no basis": ("orthogonal_adaptation", BASIS, {}, "has no evalkit.basis, so this LoRA was not trained with"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training_that_does_not_fit_is_named(name: str) -> None:
    method, first, second, message = TRAINED[name]
    parts = lora_parts((3, 3))
    loras = {place: told(notes, part, place) for place, (notes, part) in enumerate(zip((first, second), parts, strict=True))}
    found = MERGE_METHODS[method]
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        found.function(parts, Layer(LAYER, 0, [1.0, 1.0], (0, 1), loras), **found.settings({}).model_dump())
    assert "\n" not in str(caught.value)


# Lines of an experiment that are changed, and what is said of them, all in one line that begins with the place.
EXPERIMENTS: dict[str, tuple[tuple[str, str], str]] = {
    "no prompts": (
        ('method = "mc_dropout"', 'method = "regmean"\nparameters = { prompts = [] }'),
        r"arms\[1\]: prompts: ",
    ),
    "prompts without a concept": (
        ('method = "mc_dropout"', 'method = "ziplora"\nparameters = { prompts = ["a photo"] }'),
        r"arms\[1\]: prompts: .*'a photo' must contain \{\} exactly once",
    ),
    "a sampler that is none": (
        ('model = "sdxl"', 'model = "sdxl"\nscheduler = "Euler"'),
        r"base\.scheduler: diffusers has no scheduler 'Euler'",
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_settings_that_do_not_fit_are_named_before_anything_is_loaded(name: str, experiment_file: Callable[..., Path]) -> None:
    change, message = EXPERIMENTS[name]
    with pytest.raises(UserError, match=message) as caught:
        read_experiment(experiment_file(change))
    assert "\n" not in str(caught.value)


def test_a_method_for_two_names_a_case_of_one_or_three(experiment_file: Callable[..., Path]) -> None:
    for count in (1, 3):
        words = " ".join(f"{{{number}}}" for number in range(count))
        path = experiment_file(
            ('method = "mc_dropout"', 'method = "np_lora"'), ("choose = 2", f"choose = {count}"), ("{0} {1}", words),
            ("p = 0.5", "p = 0.7"),
        )  # fmt: skip
        with pytest.raises(UserError, match=rf"arms\[1\]: np_lora merges 2 LoRAs, one of them protected; a case has {count}"):
            read_experiment(path)


# Samplers of other kinds of models, too few steps, and settings that are missing: step merges serve all that are left.
MISFITS = {
    "FlowMatchEulerDiscreteScheduler": (5, "does not work with this model in 5 steps"),
    "CogVideoXDPMScheduler": (5, "does not work with this model in 5 steps"),
    "DDPMWuerstchenScheduler": (5, "does not work with this model in 5 steps"),
    "DDIMInverseScheduler": (5, "does not work with this model in 5 steps"),
    "PNDMScheduler": (2, r"does not work with this model in 2 steps .*; give more steps"),
    "EDMEulerScheduler": (5, "does not fit the settings of this model's scheduler"),
    "AmusedScheduler": (5, "does not fit the settings of this model's scheduler"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_sampler_that_can_not_draw_is_named(name: str, world: Path) -> None:
    steps, message = MISFITS[name]
    before = torch.get_rng_state()
    with pytest.raises(UserError, match=rf"base\.scheduler: {name} {message}") as caught:
        SDXL.check_scheduler(load_pipeline(world / "sdxl", scheduler=name).scheduler, steps)
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), before)


SAMPLERS = ("PNDMScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LCMScheduler")


@pytest.mark.parametrize("name", SAMPLERS)
def test_other_samplers_pass(name: str, world: Path) -> None:
    SDXL.check_scheduler(load_pipeline(world / "sdxl", scheduler=name).scheduler, 5)


def test_a_case_whose_weights_are_all_zero_is_the_base_model(odd: tuple[Pipeline, list[WeightedLora]]) -> None:
    pipeline, loras = odd
    nothing = [WeightedLora(one.lora, 0.0, one.place, one.words) for one in loras]
    assert not at_work(nothing)
    assert torch.equal(guess(pipeline, "direct", nothing), guess(pipeline, "direct", []))
