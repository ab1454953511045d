"""One file for a merge: a LoRA that any tool reads at the right scale, or the change of every weight."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.errors import UserError
from evalkit.files import write_atomic
from generation import provenance
from generation.artist import Artist, lora_key
from generation.experiment import Arm, Case, Experiment
from generation.merge.lowrank import cut
from generation.merge.parts import dense
from generation.pipeline import Dtype


@dataclass(frozen=True)
class Written:
    """What a file holds: layers, their highest rank (none for a delta), and the share of the merge's squared norm kept."""

    layers: int
    rank: int | None
    energy: float


def choose(experiment: Experiment, label: str, case: str) -> tuple[Arm, Case]:
    """Return the arm and the case of these names.

    Raises:
        UserError: the experiment has no such arm or case.
    """
    arms = {arm.label: arm for arm in experiment.arms}
    cases = {one.id: one for one in experiment.cases}
    if label not in arms:
        raise UserError(f"--arm {label}: {experiment.name} has no such arm; it has {', '.join(arms)}")
    if case not in cases:
        raise UserError(f"--case {case}: {experiment.name} has no such case; it has {', '.join(cases)}")
    return arms[label], cases[case]


def narrowed(experiment: Experiment, arm: Arm, case: Case) -> Experiment:
    """Return the experiment with one arm, one case and its concepts, so that no other LoRA is read."""
    concepts = tuple(concept for concept in experiment.concepts if concept.name in case.merged)
    return experiment.model_copy(update={"arms": (arm,), "cases": (case,), "concepts": concepts})


def write_merge(
    artist: Artist, arm: Arm, case: Case, out: Path, *, rank: int | None = None, delta: bool = False, dtype: Dtype = "float32"
) -> Written:
    """Write an arm's merge of a case's LoRAs to `out`.

    A LoRA's scales are folded into its factors, so that alpha = rank in every layer. `rank` cuts each layer to its best
    approximation of that rank, and the header says which share of the squared Frobenius norm is kept; a merge that gives no
    factors needs it. A delta holds `<layer>.diff`, to be added to the weights. The same arm gives the same bytes.

    Raises:
        UserError: no file of weights can hold the merge, or it is no LoRA and neither `rank` nor `delta` is given.
    """
    tensors: dict[str, Tensor] = {}
    kept: dict[str, tuple[float, float]] = {}
    changes = artist.changes(arm, case.merged)
    if changes is None:
        raise UserError(
            f"--arm {arm.label}: {arm.method} acts otherwise at every step, and no file of weights can hold that; "
            "dropout merges can be written with preset = 'static'"
        )
    for layer, make in changes.items():
        made = make(artist.device)
        if delta:
            tensors[f"{spelt(layer)}.diff"] = dense(made).cpu()
            continue
        if rank is not None:
            made, part, whole = cut(made, rank)
            kept[layer] = (part, whole)
        if isinstance(made, Tensor):
            raise UserError(
                f"--arm {arm.label}: {arm.method} gives whole weights and no LoRA; give --rank N for the nearest LoRA of "
                "that rank, or --delta"
            )
        if made.rank == 0:
            continue
        tail = (1,) * (made.down.dim() - 2)
        tensors[f"{spelt(layer)}.lora_A.weight"] = made.down.cpu()
        tensors[f"{spelt(layer)}.lora_B.weight"] = made.up.reshape(*made.up.shape, *tail).cpu()
    if not tensors:
        raise UserError(f"--arm {arm.label}: the merge of {case.id} changes nothing; are all weights 0?")
    total = sum(whole for _, whole in kept.values())
    energy = sum(part for part, _ in kept.values()) / total if total else 1.0
    header = {"evalkit": provenance.as_json({**_made_of(artist, arm, case), "energy_kept": energy})}
    if not delta:
        header["lora_adapter_metadata"] = provenance.as_json(_config(tensors))
    write_atomic(out, _bytes({name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}, header))
    ranks = [tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_A.weight")]
    return Written(len(tensors) if delta else len(ranks), max(ranks, default=None), energy)


def spelt(layer: str) -> str:
    """Return a layer's name as files spell it: text encoders with the prefix that transformers 5 dropped from the model."""
    component, _, name = layer.partition(".")
    if component == "unet" or name.startswith(("text_model.", "text_projection")):
        return layer
    return f"{component}.text_model.{name}"


def _made_of(artist: Artist, arm: Arm, case: Case) -> dict[str, Any]:
    """Return how to make the file again."""
    setup = artist.merge(arm)
    return {
        "experiment": artist.experiment.name,
        "base": artist.experiment.base.model,
        "case": case.id,
        "arm": arm.label,
        "method": arm.method,
        "parameters": setup.settings.model_dump(mode="json"),
        "seed": setup.seed,
        "sources": [
            {"concept": name, "sha256": artist.adapters[lora_key(name, arm)], "weight": artist.experiment.concept(name).weight}
            for name in case.merged
        ],
        "versions": provenance.versions(),
    }


def _config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return peft's configuration of each component: rank and alpha, equal, by layer.

    diffusers guesses where it is missing; releases before 2026-08 guess wrong for layers of different ranks.
    """
    config: dict[str, Any] = {}
    for component in ("text_encoder", "text_encoder_2", "unet"):
        start, end = f"{component}.", ".lora_A.weight"
        # without text_model., a name fits encoders that have the prefix and those that dropped it
        ranks = {
            name.removeprefix(start).removeprefix("text_model.").removesuffix(end): tensor.shape[0]
            for name, tensor in tensors.items()
            if name.startswith(start) and name.endswith(end)
        }
        if ranks:
            highest = max(ranks.values())
            other = {name: rank for name, rank in ranks.items() if rank != highest}
            said = {"r": highest, "lora_alpha": highest, "target_modules": sorted(ranks)}
            said |= {"rank_pattern": other, "alpha_pattern": other}
            config |= {f"{start}{key}": value for key, value in said.items()}
    return config


def _bytes(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """Return a safetensors file with a sorted header: the library orders what the header says anew in every process."""
    from safetensors.torch import save

    data: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=dict(header))
    (length,) = struct.unpack("<Q", data[:8])
    said = json.loads(data[8 : 8 + length])
    text = provenance.as_json({"__metadata__": said.pop("__metadata__"), **said}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
