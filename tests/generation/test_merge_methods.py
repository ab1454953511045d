"""Every merge method: its contract, and its law inside a real model."""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generation.lora.factors import Factors
from generation.lora.lora_file import load_lora
from generation.merge import methods
from generation.merge.apply import Merge
from generation.merge.dropout_masks import MaskOptions
from generation.merge.method import by_name
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Observer, WeightedLora, module_of
from generation.pipeline import Pipeline, components, load_pipeline
from tests.merging import SHORT_SEARCH, as_trained, loras_of
from tests.tiny import adapted, save_peft_lora
from tests.unet import unet_inputs

EVERY_METHOD = pytest.mark.parametrize("method", MERGE_METHODS)
MASKED = ("mc_dropout", "orthogonal_mc_dropout")
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OPTIONS: tuple[dict[str, Any], ...] = (
    {"preset": "official"},
    {"preset": "shared_cfg"},
    {"preset": "static"},
    {"granularity": "channel"},
    {"granularity": "channel", "refresh": "image"},
    {"refresh": "step"},
    {"refresh": "run"},
)


def merge(name: str, **parameters: Any) -> Merge:
    method = MERGE_METHODS[name]
    if method.acts_on == "calibrated":
        parameters = {"calibration_steps": 1, **SHORT_SEARCH.get(name, {}), **parameters}
    return Merge(method, method.settings(parameters), seed=11)


@torch.no_grad()
def denoise(
    pipeline: Pipeline, wanted: Merge, loras: Sequence[WeightedLora], images: Sequence[int] = (1, 2), calls: int = 1,
    observe: Observer | None = None,
) -> Tensor:  # fmt: skip
    """Return the UNet's last output for a batch under a merge."""
    state = SamplingState(pipeline)
    try:
        with wanted.applied(pipeline, as_trained(wanted.method.name, loras), state, observe):
            state.begin(images)
            for _ in range(calls):
                output: Tensor = pipeline.unet(**unet_inputs(images)).sample
    finally:
        state.close()
    return output


def test_two_methods_of_one_name_are_refused() -> None:
    direct = MERGE_METHODS["direct"]
    with pytest.raises(ValueError, match="two merge methods are called 'direct'"):
        by_name(direct, direct)


@EVERY_METHOD
def test_a_method_says_what_it_does_and_where_it_comes_from(method: str) -> None:
    card = MERGE_METHODS[method]
    assert card.summary.endswith(".")
    assert card.source
    assert card.settings({})


@EVERY_METHOD
def test_a_method_keeps_shape_and_type_and_leaves_the_global_generator(method: str, world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring")
    before = torch.get_rng_state()
    output = denoise(sdxl, merge(method), loras)
    assert torch.equal(torch.get_rng_state(), before)
    assert output.shape == (4, 4, 8, 8)
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()
    plain = denoise(sdxl, merge(method), [])
    assert not torch.allclose(output, plain)
    assert torch.equal(denoise(sdxl, merge(method), loras), output)


@EVERY_METHOD
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_method_works_in_half_precision(method: str, dtype: torch.dtype, world: Path) -> None:
    pipeline = load_pipeline(world / "sdxl", "float16" if dtype == torch.float16 else "bfloat16")
    state = SamplingState(pipeline)
    module = module_of(pipeline, LAYER)
    loras = as_trained(method, loras_of(world, pipeline, "star", "ring"))
    with torch.no_grad(), merge(method).applied(pipeline, loras, state):
        state.begin([1])
        output = module(torch.ones(1, 5, module.in_features, dtype=dtype))
    state.close()
    assert output.dtype == dtype
    assert torch.isfinite(output).all()


@EVERY_METHOD
def test_every_weight_is_back_bit_by_bit_after_a_merge(method: str, world: Path, sdxl: Pipeline) -> None:
    def weights() -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value.clone()
            for name, part in components(sdxl).items()
            for key, value in part.state_dict().items()
        }

    before = weights()
    denoise(sdxl, merge(method), loras_of(world, sdxl, "star", "ring"))
    star = as_trained(method, loras_of(world, sdxl, "star"))
    with pytest.raises(KeyboardInterrupt), merge(method).applied(sdxl, star, SamplingState(sdxl)):
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[key]) for key, value in weights().items())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", MASKED)
def test_a_batch_of_one_equals_a_batch_of_three(method: str, options: dict[str, Any], world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring")
    wanted = merge(method, **options)
    together = denoise(sdxl, wanted, loras, images=(1, 2, 3), calls=2)
    for place, image in enumerate((1, 2, 3)):
        alone = denoise(sdxl, wanted, loras, images=(image,), calls=2)
        assert torch.equal(alone, together[[place, place + 3]])


@EVERY_METHOD
def test_weight_zero_removes_a_lora_exactly(method: str, world: Path, sdxl: Pipeline) -> None:
    nothing = denoise(sdxl, merge(method), loras_of(world, sdxl, "star", weights=[0.0]))
    assert torch.equal(nothing, denoise(sdxl, merge(method), []))
    # beside another one it leaves no trace either, though both have their place in the case
    star, ring = loras_of(world, sdxl, "star", "ring", weights=[0.8, 0.0])
    assert torch.equal(denoise(sdxl, merge(method), [star, ring]), denoise(sdxl, merge(method), [star]))


@pytest.mark.parametrize("method", MASKED)
def test_one_lora_without_dropout_is_the_plain_lora_bit_by_bit(method: str, world: Path, sdxl: Pipeline) -> None:
    (star,) = loras_of(world, sdxl, "star")
    module = module_of(sdxl, LAYER)
    x = torch.randn(2, 7, module.in_features, generator=torch.Generator().manual_seed(0))
    part = star.lora.part(LAYER)
    state = SamplingState(sdxl)
    with torch.no_grad():
        plain = module(x) + nn.functional.linear(nn.functional.linear(x, part.down), part.up)
        with merge(method, p=0).applied(sdxl, [star], state):
            state.begin([1, 2])
            assert torch.equal(module(x), plain)
    state.close()


def test_static_masks_without_dropout_are_the_direct_merge_bit_by_bit(world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring")
    assert torch.equal(denoise(sdxl, merge("mc_dropout", p=0, preset="static"), loras), denoise(sdxl, merge("direct"), loras))


def test_unfolded_the_direct_merge_is_the_same_up_to_rounding(world: Path, sdxl: Pipeline) -> None:
    """Covers hooks on linear and convolution layers: dropout at rate 0 is the direct merge, hooked."""
    loras = loras_of(world, sdxl, "star", "ring", weights=[1.0, 0.7])
    folded = denoise(sdxl, merge("direct"), loras)
    for options in ({}, {"granularity": "channel"}):
        assert torch.allclose(denoise(sdxl, merge("mc_dropout", p=0, **options), loras), folded, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("method", MASKED)
def test_folded_static_masks_equal_hooked_ones(
    method: str, world: Path, sdxl: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    loras = loras_of(world, sdxl, "star", "ring")
    folded = denoise(sdxl, merge(method, preset="static"), loras)
    monkeypatch.setattr(MaskOptions, "foldable", property(lambda options: False))
    assert torch.allclose(denoise(sdxl, merge(method, preset="static"), loras), folded, atol=2e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # peft's remark on a second adapter
def test_direct_equals_diffusers_and_peft(world: Path, sdxl: Pipeline, tmp_path: Path) -> None:
    conv = save_peft_lora(tmp_path / "conv.safetensors", adapted(sdxl, r"conv1$|to_q$"), rank=8, seed=5)
    theirs = load_pipeline(world / "sdxl")
    theirs.load_lora_weights(world / "star.safetensors", adapter_name="star")
    theirs.load_lora_weights(conv, adapter_name="conv")
    theirs.set_adapters(["star", "conv"], [1.0, 0.7])
    loras = [
        WeightedLora(load_lora(path, sdxl), weight, 0) for path, weight in ((world / "star.safetensors", 1.0), (conv, 0.7))
    ]
    ours = denoise(sdxl, merge("direct"), loras)
    with torch.no_grad():
        assert torch.allclose(theirs.unet(**unet_inputs((1, 2))).sample, ours, atol=2e-4, rtol=1e-4)
        ids = torch.arange(10)[None]
        with merge("direct").applied(sdxl, loras, SamplingState(sdxl)):
            for encoder in ("text_encoder", "text_encoder_2"):
                mine, peft = (getattr(pipe, encoder)(ids)[0] for pipe in (sdxl, theirs))
                assert torch.allclose(mine, peft, atol=1e-5)


def test_the_outputs_of_any_two_loras_never_meet(world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring", "moon")
    seen: list[str] = []

    def look(layer: str, outputs: list[Tensor], gains: list[Tensor]) -> None:
        seen.append(layer)
        for one, other in combinations([y * gain for y, gain in zip(outputs, gains, strict=True)], 2):
            assert torch.count_nonzero(one * other) == 0

    for options in ({}, {"granularity": "channel"}):
        denoise(sdxl, merge("orthogonal_mc_dropout", p=2 / 3, **options), loras, calls=2, observe=look)
    unet = {name for weighted_lora in loras for name in weighted_lora.lora.factors if name.startswith("unet.")}
    assert set(seen) == unet
    assert len(seen) == 4 * len(unet)


@pytest.mark.parametrize("method", MASKED)
def test_the_mean_over_masks_is_the_direct_merge(method: str, world: Path, sdxl: Pipeline) -> None:
    loras = loras_of(world, sdxl, "star", "ring")
    module, count = module_of(sdxl, LAYER), 800
    x = torch.randn(1, 3, module.in_features, generator=torch.Generator().manual_seed(0))
    state = SamplingState(sdxl)
    with torch.no_grad():
        with merge("direct").applied(sdxl, loras, state):
            direct = module(x)
        with merge(method, p=0.5).applied(sdxl, loras, state):
            state.begin(range(count))
            outputs = module(x.expand(count, -1, -1))
    state.close()
    error = (outputs - direct).mean(0) / (outputs.std(0) / math.sqrt(count))
    assert error.abs().max().item() < 5


def test_masks_per_channel_do_the_same_in_the_weight_and_beside_it(world: Path, sdxl: Pipeline) -> None:
    module, state = module_of(sdxl, LAYER), SamplingState(sdxl)
    x = torch.randn(4, 50, module.in_features, generator=torch.Generator().manual_seed(0))
    options = {"granularity": "channel", "refresh": "image"}
    with (
        torch.no_grad(),
        merge("orthogonal_mc_dropout", **options).applied(sdxl, loras_of(world, sdxl, "star", "ring"), state),
    ):
        state.begin([1, 2])
        many = module(x)
        # a token alone is less work than a weight
        single = torch.cat([module(token) for token in torch.split(x, 1, dim=1)], dim=1)
    state.close()
    assert torch.allclose(many, single, atol=1e-5)


def changed(world: Path, sdxl: Pipeline, **options: Any) -> tuple[bool, bool, bool]:
    """Return whether masks differ between calls, between the halves of guidance, and between images."""
    outputs: list[Tensor] = []
    wanted = merge("orthogonal_mc_dropout", **options)
    denoise(
        sdxl, wanted, loras_of(world, sdxl, "star", "ring"), images=(1, 2), calls=2,
        observe=lambda layer, parts, gains: outputs.append(gains[0] != 0) if layer == LAYER else None,
    )  # fmt: skip
    first, second = (kept.view(4, -1) for kept in outputs)
    return not torch.equal(first, second), not torch.equal(first[0], first[2]), not torch.equal(first[0], first[1])


def test_options_say_when_masks_are_drawn_anew(world: Path, sdxl: Pipeline) -> None:
    assert changed(world, sdxl, preset="official") == (True, True, True)
    assert changed(world, sdxl, preset="shared_cfg") == (True, False, True)
    assert changed(world, sdxl, refresh="image") == (False, True, True)
    assert changed(world, sdxl, refresh="run", cfg="shared") == (False, False, False)
    assert changed(world, sdxl, granularity="channel", cfg="shared") == (True, False, True)


def test_a_second_order_sampler_keeps_masks_for_both_calls_of_a_step(world: Path) -> None:
    pipeline = load_pipeline(world / "sdxl", scheduler="KDPM2DiscreteScheduler")
    assert changed(world, pipeline, refresh="step") == (False, True, True)
    assert changed(world, pipeline, refresh="forward") == (True, True, True)


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # diffusers' schedulers pass tensors to numpy
def test_states_of_one_pipeline_end_in_any_order(sdxl: Pipeline) -> None:
    def steps(state: SamplingState) -> int:
        sdxl.scheduler.set_timesteps(4)
        before = state._finished
        sdxl.scheduler.step(torch.zeros(1, 4, 8, 8), sdxl.scheduler.timesteps[0], torch.zeros(1, 4, 8, 8))
        return state._finished - before

    outer, inner = SamplingState(sdxl), SamplingState(sdxl)
    assert steps(outer) == steps(inner) == 1
    inner.close()
    assert steps(outer) == 1
    later = SamplingState(sdxl)
    outer.close()
    assert steps(later) == 1
    later.close()
    assert steps(later) == 0


def test_factors_multiply_out_to_the_weight_s_shape() -> None:
    factors = Factors(torch.ones(2, 3, 5, 5), torch.ones(4, 2))
    assert factors.dense().shape == (4, 3, 5, 5)
    assert factors.rank == 2


def test_every_file_of_a_method_is_in_the_registry() -> None:
    files = {path.stem for path in Path(methods.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(MERGE_METHODS), "generation/merge/methods/__init__.py: list each method's file"
