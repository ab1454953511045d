"""Random LoRA factors, and what a merge of weights makes of them: shared by the tests of merges."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generation.lora.factors import Factors, Lora
from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.calibration import Moments
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora, layers_of, module_of
from generation.pipeline import Pipeline

RANKS = (4, 2, 3)
OUTPUTS, INPUTS = 12, 20
# Parameters that make a search through the whole denoiser short: three updates move every coefficient.
SHORT_SEARCH: Mapping[str, Mapping[str, Any]] = {"ziplora": {"updates": 3}}
# Merges that prune the entries of a change.
PRUNED = ("ties", "dare_linear", "dare_ties", "magnitude_prune")


def lora_parts(ranks: Sequence[int] = RANKS, window: Sequence[int] = (INPUTS,), seed: int = 0) -> list[Factors]:
    rng = torch.Generator().manual_seed(seed)
    return [Factors(torch.randn(r, *window, generator=rng), torch.randn(OUTPUTS, r, generator=rng)) for r in ranks]


def merged(
    method: str, parts: Sequence[Factors], *, places: Sequence[int] | None = None, weights: Sequence[float] = (),
    name: str = "unet.up_blocks.0.attentions.0.to_q", seed: int = 7, **parameters: Any,
) -> Tensor:  # fmt: skip
    """Return the dense change that a method makes of `parts`."""
    found = MERGE_METHODS[method]
    settings = found.settings(parameters).model_dump()
    places = range(len(parts)) if places is None else places
    loras = [
        WeightedLora(Lora(Path(f"{place}.safetensors"), "", {name: part}, {name: 1.0}), 1.0, place)
        for place, part in zip(places, parts, strict=True)
    ]
    trained = as_trained(method, loras)
    layer = Layer(name, seed, weights or [1.0] * len(parts), places, {one.place: one.lora for one in trained})
    result = found.function([one.lora.factors[name] for one in trained], layer, **settings)
    return result.dense() if isinstance(result, Factors) else result


def inputs(count: int = 200, seed: int = 0, loras: int = 3) -> list[Tensor]:
    """Return what a layer saw while each LoRA drew, [count, INPUTS] each, of different covariance."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(count, INPUTS, generator=rng) @ mixing(rng) for _ in range(loras)]


def mixing(rng: torch.Generator) -> Tensor:
    return torch.eye(INPUTS) + 0.2 * torch.randn(INPUTS, INPUTS, generator=rng)


def fitted(method: str, parts: Sequence[Factors], seen: Sequence[Tensor], **parameters: Any) -> Factors | Tensor:
    found = MERGE_METHODS[method]
    own = found.settings(parameters).model_dump(exclude={"prompts", "calibration_steps"})
    moments = Moments([part.down for part in parts], hidden=found.needs == "hidden")
    for number, x in enumerate(seen):
        for half in torch.split(x, len(x) // 2):
            moments.add(half, number if number < len(parts) else None)
    result: Factors | Tensor = found.function(parts, Layer("unet.a", 0, [1.0] * len(parts), range(len(parts))), moments, **own)
    return result


def as_trained(method: str, loras: Sequence[WeightedLora]) -> list[WeightedLora]:
    """Return LoRAs as if they had been trained for a method that asks for it: in slots of rows, or on one basis."""

    def row(value: Factors, slot: int) -> Factors:
        mine = torch.arange(value.up.shape[0]) % 9 == slot
        return Factors(value.down, value.up * mine[:, None])

    def told(one: WeightedLora, factors: Mapping[str, Factors], **notes: Any) -> WeightedLora:
        header = {f"evalkit.{key}": json.dumps(value) for key, value in notes.items()}
        return replace(one, lora=replace(one.lora, factors=factors, header=header))

    if method == "blocklora":
        return [
            told(
                one, {name: row(part, one.place) for name, part in one.lora.factors.items()},
                slot=one.place, slots=9, block_rule="strided",
            )
            for one in loras
        ]  # fmt: skip
    if method == "orthogonal_adaptation":
        sums = {str(part.down[0].numel()): "same" for one in loras for part in one.lora.factors.values()}
        return [told(one, one.lora.factors, basis={"rows": "random", "slot": None, "sha256": sums}) for one in loras]
    return list(loras)


def plain_sum(parts: Sequence[Factors]) -> Tensor:
    return torch.stack([part.dense() for part in parts]).sum(0)


def close(one: Tensor, other: Tensor, atol: float = 1e-5) -> bool:
    return torch.allclose(one, other.to(one.dtype), atol=atol, rtol=1e-4)


def matrix_part(rows: list[list[float]]) -> Factors:
    return Factors(torch.eye(len(rows[0])), torch.tensor(rows))


def loras_of(
    world: Path, pipeline: Pipeline, *names: str, weights: Sequence[float] = (), words: bool = True
) -> list[WeightedLora]:
    loras = [load_lora(world / f"{name}.safetensors", pipeline) for name in names]
    found = enumerate(zip(loras, weights or [1.0] * 9, names, strict=False))
    return [WeightedLora(lora, weight, place, name if words else "") for place, (lora, weight, name) in found]


def changes(pipeline: Pipeline, loras: Sequence[WeightedLora], method: str, **parameters: Any) -> dict[str, Tensor]:
    """Return the weights of all layers the LoRAs adapt, under a merge of them."""
    found = MERGE_METHODS[method]
    state = SamplingState(pipeline)
    try:
        with Merge(found, found.settings(parameters), seed=11).applied(pipeline, as_trained(method, loras), state):
            return {name: module_of(pipeline, name).weight.clone() for name in layers_of(loras)}
    finally:
        state.close()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
