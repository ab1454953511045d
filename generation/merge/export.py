"""Writes a merge as one file: a LoRA with folded scales, or the change of every weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor

from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside
from generation import provenance
from generation.experiment import ArmSpec, CaseSpec, Experiment
from generation.lora_cache import lora_key
from generation.merge.lowrank import cut
from generation.merge.setup import dense
from generation.pipeline import Dtype
from generation.sampler import Sampler
from generation.tensor_file import TensorFile


@dataclass(frozen=True)
class MergedFileSummary:
    """Contents of a written file: layers, their highest rank (None for a delta), and the share of squared norm kept."""

    layers: int
    rank: int | None
    energy: float


def choose(experiment: Experiment, label: str, case: str) -> tuple[ArmSpec, CaseSpec]:
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


def narrowed(experiment: Experiment, arm: ArmSpec, case: CaseSpec) -> Experiment:
    """Return the experiment with one arm, one case and its concepts, so that no other LoRA is read."""
    concepts = tuple(concept for concept in experiment.concepts if concept.name in case.merged)
    return experiment.model_copy(update={"arms": (arm,), "cases": (case,), "concepts": concepts})


def write_merge(
    sampler: Sampler,
    arm: ArmSpec,
    case: CaseSpec,
    out: Path,
    *,
    rank: int | None = None,
    delta: bool = False,
    dtype: Dtype = "float32",
) -> MergedFileSummary:
    """Write an arm's merge of a case's LoRAs to `out`; the same arm gives the same bytes.

    Scales are folded into the factors, so that alpha = rank in every layer. A delta contains `<layer>.diff`, to be added to
    the weights.

    Parameters
    ----------
    sampler
        The sampler with the experiment's model and LoRAs.
    arm, case
        What to merge.
    out
        Path of the file, ending in .safetensors.
    rank
        Truncate each layer to this rank; the header states the share of the squared Frobenius norm kept. A merge that is
        not low rank requires it, or `delta`. Default: no truncation.
    delta
        Write dense changes of weights instead of a LoRA. Default: False.
    dtype
        Number format of the tensors: "float32" (default), "float16" or "bfloat16".

    Raises:
        UserError: the merge changes while sampling, or it is not low rank and neither `rank` nor `delta` is given.
    """
    changes = sampler.changes(arm, case.merged)
    if changes is None:
        raise UserError(
            f"--arm {arm.label}: {arm.method} changes while sampling, which no file of weights can represent; "
            "write a dropout merge with preset = 'static', or choose another arm"
        )
    norms: dict[str, tuple[float, float]] = {}
    with temporary_beside(out) as temporary, TemporaryFile(dir=out.parent) as data:
        file, precision = TensorFile(data), getattr(torch, dtype)
        for layer, make in changes.items():
            made = make(sampler.device)
            if delta:
                file.add(f"{spelt(layer)}.diff", dense(made).to(precision))
                continue
            if rank is not None:
                made, part, whole = cut(made, rank)
                norms[layer] = (part, whole)
            if isinstance(made, Tensor):
                raise UserError(
                    f"--arm {arm.label}: {arm.method} gives whole weights and no LoRA; give --rank N for the nearest LoRA of "
                    "that rank, or --delta"
                )
            if made.rank == 0:
                continue
            tail = (1,) * (made.down.dim() - 2)
            file.add(f"{spelt(layer)}.lora_A.weight", made.down.to(precision))
            file.add(f"{spelt(layer)}.lora_B.weight", made.up.reshape(*made.up.shape, *tail).to(precision))
        if not file.entries:
            raise UserError(f"--arm {arm.label}: the merge of {case.id} changes nothing; are all weights 0?")
        total = sum(whole for _, whole in norms.values())
        energy = sum(part for part, _ in norms.values()) / total if total else 1.0
        header = {"evalkit": provenance.as_json({**_made_of(sampler, arm, case), "energy_kept": energy})}
        if not delta:
            header["lora_adapter_metadata"] = provenance.as_json(_config(file.ranks()))
        file.write(temporary, header)
    ranks = file.ranks().values()
    return MergedFileSummary(len(file.entries) if delta else len(ranks), max(ranks, default=None), energy)


def spelt(layer: str) -> str:
    """Return a layer's name as files spell it: text encoders with the prefix that transformers 5 removed from the model."""
    component, _, name = layer.partition(".")
    if component == "unet" or name.startswith(("text_model.", "text_projection")):
        return layer
    return f"{component}.text_model.{name}"


def _made_of(sampler: Sampler, arm: ArmSpec, case: CaseSpec) -> dict[str, Any]:
    """Return everything needed to reproduce the file."""
    setup = sampler.merge(arm)
    return {
        "experiment": sampler.experiment.name,
        "base": sampler.experiment.base.model,
        "case": case.id,
        "arm": arm.label,
        "method": arm.method,
        "parameters": setup.settings.model_dump(mode="json"),
        "seed": setup.seed,
        "sources": [
            {
                "concept": name,
                "sha256": sampler.loras.sha256[lora_key(name, arm)],
                "weight": sampler.experiment.concept(name).weight,
            }
            for name in case.merged
        ],
        "versions": provenance.versions(),
    }


def _config(rank_by_key: Mapping[str, int]) -> dict[str, Any]:
    """Return peft's configuration of each component from the ranks of its layers' first factors; alpha equals rank.

    diffusers guesses a missing configuration; releases before 2026-08 guess wrong for layers of different ranks.
    """
    config: dict[str, Any] = {}
    for component in ("text_encoder", "text_encoder_2", "unet"):
        start, end = f"{component}.", ".lora_A.weight"
        # without text_model., a name fits encoders that have the prefix and those that dropped it
        ranks = {
            name.removeprefix(start).removeprefix("text_model.").removesuffix(end): rank
            for name, rank in rank_by_key.items()
            if name.startswith(start)
        }
        if ranks:
            highest = max(ranks.values())
            other = {name: rank for name, rank in ranks.items() if rank != highest}
            component_config = {"r": highest, "lora_alpha": highest, "target_modules": sorted(ranks)}
            component_config |= {"rank_pattern": other, "alpha_pattern": other}
            config |= {f"{start}{key}": value for key, value in component_config.items()}
    return config
