"""Merges over time: who acts at which step, whatever the sampler and the number of steps."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.apply import Merge
from generation.merge.method_inputs import StepPlan
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora
from generation.pipeline import Pipeline, load_pipeline, quiet
from tests.merging import lora_parts, loras_of
from tests.unet import unet_inputs

SAMPLERS = (
    "EulerDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "HeunDiscreteScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)


@pytest.fixture(scope="module")
def pipeline(world: Path) -> Pipeline:
    return load_pipeline(world / "sdxl")


@torch.no_grad()
def outputs(
    pipeline: Pipeline,
    method: str,
    loras: Sequence[WeightedLora],
    steps: int,
    images: Sequence[int] = (1,),
    **parameters: object,
) -> list[Tensor]:
    """Return what the UNet gives at each call of a drawing with as many steps."""
    found, state = MERGE_METHODS[method], SamplingState(pipeline, steps)
    with quiet():
        pipeline.scheduler.set_timesteps(steps)
    try:
        with Merge(found, found.settings(parameters), seed=0).applied(pipeline, loras, state):
            state.begin(images)
            return [pipeline.unet(**unet_inputs(images)).sample for _ in pipeline.scheduler.timesteps]
    finally:
        state.close()


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=2e-4, rtol=1e-4)


def test_loras_take_turns_in_the_order_of_the_case(world: Path, pipeline: Pipeline) -> None:
    star, ring = loras_of(world, pipeline, "star", "ring")
    alone = [outputs(pipeline, "direct", [lora], 1)[0] for lora in (star, ring)]
    turns = outputs(pipeline, "lora_switch", [star, ring], 5, tau=2)
    assert [close(turn, alone[0]) for turn in turns] == [True, True, False, False, True]
    assert [close(turn, alone[1]) for turn in turns] == [False, False, True, True, False]
    # the place in the case decides, not the order in which LoRAs arrive
    swapped = outputs(pipeline, "lora_switch", [WeightedLora(ring.lora, 1.0, 0), WeightedLora(star.lora, 1.0, 1)], 1)
    assert close(swapped[0], alone[1])


def test_the_text_encoders_of_a_switch_see_the_first_lora(world: Path, pipeline: Pipeline) -> None:
    loras = loras_of(world, pipeline, "star", "ring")
    ids, found = torch.arange(10)[None], {}
    for method, chosen in (("lora_switch", loras), ("lora_composite", loras), ("direct", loras[:1]), ("direct ", loras)):
        name = MERGE_METHODS[method.strip()]
        with (
            torch.no_grad(),
            Merge(name, name.settings({}), seed=0).applied(pipeline, chosen, state := SamplingState(pipeline)),
        ):
            found[method] = pipeline.text_encoder(ids)[0]
        state.close()
    assert torch.allclose(found["lora_switch"], found["direct"], atol=1e-5)
    assert torch.allclose(found["lora_composite"], found["direct "], atol=1e-5)


def test_a_composite_is_the_mean_of_every_lora_alone(world: Path, pipeline: Pipeline) -> None:
    loras = loras_of(world, pipeline, "star", "ring", "moon", weights=[1.0, 0.7, 1.2])
    alone = torch.stack([outputs(pipeline, "direct", [lora], 1)[0] for lora in loras])
    for guess in outputs(pipeline, "lora_composite", loras, 2):
        assert close(guess, alone.mean(0))
    before = outputs(pipeline, "direct", [], 1)[0]
    assert torch.equal(before, outputs(pipeline, "lora_composite", [], 1)[0])


@pytest.mark.parametrize("method", ["lora_switch", "lora_composite", "k_lora"])
def test_a_batch_of_one_equals_a_batch_of_three(method: str, world: Path, pipeline: Pipeline) -> None:
    loras = loras_of(world, pipeline, "star", "ring")
    together = outputs(pipeline, method, loras, 2, images=(1, 2, 3))[-1]
    for place, image in enumerate((1, 2, 3)):
        alone = outputs(pipeline, method, loras, 2, images=(image,))[-1]
        assert torch.equal(alone, together[[place, place + 3]])


def plan(parts: dict[str, list[Factors]], steps: int) -> StepPlan:
    return StepPlan(
        steps, (0, 1), {layer: range(len(here)) for layer, here in parts.items()}, lambda layer, place: parts[layer][place]
    )


def test_k_lora_is_the_paper_s_comparison() -> None:
    parts = {f"unet.{seed}": lora_parts((2, 3), seed=seed) for seed in range(6)}
    parts["unet.2"][0] = Factors(parts["unet.2"][0].down * 3, parts["unet.2"][0].up)
    deltas = {layer: [part.dense().abs() for part in here] for layer, here in parts.items()}
    gamma = sum(float(here[0].sum()) for here in deltas.values()) / sum(float(here[1].sum()) for here in deltas.values())
    steps = 10
    tables = MERGE_METHODS["k_lora"].function(plan(parts, steps))
    for layer, (subject, style) in deltas.items():
        mine, theirs = (sum(sorted(sizes.flatten().tolist())[-6:]) for sizes in (subject, style))
        for step in range(steps):
            wins = mine >= theirs * gamma * (1.5 * step / steps + 0.5)
            assert tables[layer][0, step].tolist() == [float(wins), float(not wins)]
    swapped = MERGE_METHODS["k_lora"].function(plan({k: v[::-1] for k, v in parts.items()}, steps), style="first")
    assert all(torch.equal(swapped[layer], tables[layer].flip(2)) for layer in tables)


def test_k_lora_decides_alike_at_any_number_of_steps() -> None:
    parts = {f"unet.{seed}": lora_parts((2, 3), seed=seed) for seed in range(6)}
    parts["unet.single"] = lora_parts((2,))
    coarse, fine = (MERGE_METHODS["k_lora"].function(plan(parts, steps)) for steps in (10, 50))
    assert all(torch.equal(coarse[layer], fine[layer][:, ::5]) for layer in parts)
    assert coarse["unet.single"].eq(1).all()
    share = torch.cat([table[0, :, 0] for layer, table in fine.items() if layer != "unet.single"]).mean()
    assert 0 < share < 1


@pytest.mark.parametrize("steps", [2, 7, 30])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_of_every_sampler_has_its_turn(sampler: str, steps: int, pipeline: Pipeline) -> None:
    import diffusers

    kind = getattr(diffusers, sampler)
    with quiet():
        # with its Runge-Kutta start, PNDM needs 4 steps or more
        scheduler = kind.from_config(pipeline.scheduler.config, skip_prk_steps=True)
        scheduler.set_timesteps(steps)
    state = SamplingState(pipeline, steps)
    state._scheduler = scheduler
    state.begin([1])
    seen = []
    for call in range(len(scheduler.timesteps)):
        state._calls["unet"] = call
        seen.append(state.step())
    state.close()
    assert seen == sorted(seen)
    assert set(seen) == set(range(steps))


def test_k_lora_merges_two() -> None:
    found = MERGE_METHODS["k_lora"]
    assert found.check is not None
    with pytest.raises(ValueError, match="k_lora merges 2 LoRAs, one of them the style; a case has 3"):
        found.check(3, found.settings({}))
