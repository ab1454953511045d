"""Writes a merge as one file: a LoRA with folded scales, or the change of every weight."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.errors import UserError
from generation import provenance
from generation.experiment import ArmSpec, CaseSpec, Experiment
from generation.families import denoiser
from generation.lora.export_names import ExportNames, FileFormat, common_format
from generation.lora.layer_weights import as_plain
from generation.lora.lora_writer import lora_writer
from generation.lora_cache import lora_key
from generation.merge.lowrank import cut
from generation.merge.setup import dense, is_vector
from generation.pipeline import Dtype, components
from generation.sampler import Sampler


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
    file_format: FileFormat | None = None,
) -> MergedFileSummary:
    """Write an arm's merge of a case's LoRAs to `out`; the same arm gives the same bytes.

    Scales are folded into the factors, so that alpha = rank in every layer; every program reads a missing alpha as the rank.

    Parameters
    ----------
    sampler
        The sampler with the experiment's model and LoRAs.
    arm, case
        What to merge.
    out
        Path of the file, ending in .safetensors; with the format "peft", of a folder.
    rank
        Truncate each layer to this rank; the header states the share of the squared Frobenius norm kept. A merge that is
        not low rank requires it, or `delta`. Default: no truncation.
    delta
        Write dense changes of weights, `<layer>.diff`, instead of a LoRA. Default: False.
    dtype
        Number format of the tensors: "float32" (default), "float16" or "bfloat16".
    file_format
        "kohya", "diffusers" or "peft". Default: the common format of the model's family.

    Raises:
        UserError: the merge changes while sampling, it is not low rank and neither `rank` nor `delta` is given, or the
            format cannot represent it.
    """
    changes = sampler.changes(arm, case.merged)
    if changes is None:
        raise UserError(
            f"--arm {arm.label}: {arm.method} changes while sampling, which no file of weights can represent; "
            "write a dropout merge with preset = 'static', or choose another arm"
        )
    pipeline = sampler.pipeline
    names = ExportNames(
        file_format or common_format(pipeline), components(pipeline), sampler.family.native_layers(denoiser(pipeline))
    )
    norms: dict[str, tuple[float, float]] = {}
    with lora_writer(out, names, getattr(torch, dtype)) as writer:
        for layer, make in changes.items():
            made = make(sampler.device)
            if is_vector(sampler.pipeline, layer):
                writer.add_dense(layer, dense(made).flatten())
                continue
            if delta:
                writer.add_dense(layer, dense(made))
                continue
            if rank is not None:
                made, retained, whole = cut(made, rank)
                norms[layer] = (retained, whole)
            if isinstance(made, Tensor):
                raise UserError(
                    f"--arm {arm.label}: {arm.method} gives dense weights, not a LoRA; give --rank N for the nearest LoRA of "
                    "that rank, or --delta"
                )
            writer.add_factors(layer, made)
        if not writer.entries:
            raise UserError(f"--arm {arm.label}: the merge of {case.id} changes nothing; give weights other than 0")
        total = sum(whole for _, whole in norms.values())
        energy = sum(retained for retained, _ in norms.values()) / total if total else 1.0
        writer.write({"evalkit": provenance.as_json({**_made_of(sampler, arm, case), "energy_kept": energy})})
        layers = writer.entries if delta else len(writer.ranks)
        return MergedFileSummary(layers, None if delta else max(writer.ranks.values(), default=None), energy)


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
                "weight": as_plain(arm.weight_of(sampler.experiment.concept(name))),
            }
            for name in case.merged
        ],
        "versions": provenance.versions(),
    }
