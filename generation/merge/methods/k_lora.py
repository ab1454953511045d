"""K-LoRA: in each layer and step, the subject or the style."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from generation.merge.method import merge_method
from generation.merge.on_steps import StepPlan
from generation.merge.role_pairs import pair_of


@merge_method(
    acts_on="steps",
    source="Ouyang et al. 2025, arXiv 2502.18461",
    check=pair_of("k_lora", "one of them the style"),
)
def k_lora(
    plan: StepPlan,
    *,
    alpha: Annotated[float, Field(ge=0)] = 1.5,
    beta: Annotated[float, Field(ge=0)] = 0.5,
    style: Literal["first", "second"] = "second",
) -> Mapping[str, Tensor]:
    """Let the subject act in a layer where S_c >= S_s gamma (alpha t / T + beta), else the style; t of T steps are done.

    S sums the K largest entries of a LoRA's change by size, K = r_c r_s; gamma is the ratio of all entries' sizes, subject to
    style, over all layers that both adapt. Steps are counted as such, so any number of them and any sampler will do; the
    authors' code counts layer calls and fits 50 steps of SDXL alone. Ours differs in two more ways: changes carry weight and
    alpha / rank, and all layers take part, not attention alone. A LoRA that is alone in a layer always acts there; text
    encoders see what acts at the first step.
    """
    both = {layer for layer, places in plan.layers.items() if len(places) == 2}
    first, second = plan.order[0], plan.order[-1]
    content, other = (first, second) if style == "second" else (second, first)
    strengths, totals = {}, torch.zeros(2, dtype=torch.float64)
    for layer in both:
        parts = [plan.part(layer, place) for place in (content, other)]
        sizes = [part.dense().abs().flatten() for part in parts]
        largest = min(parts[0].rank * parts[1].rank, len(sizes[0]))
        strengths[layer] = [float(size.topk(largest).values.sum(dtype=torch.float64)) for size in sizes]
        totals += torch.tensor([float(size.sum(dtype=torch.float64)) for size in sizes])
    gamma = float(totals[0] / totals[1]) if totals[1] > 0 else 0.0
    bounds = [gamma * (alpha * step / plan.steps + beta) for step in range(plan.steps)]
    tables = {}
    for layer, places in plan.layers.items():
        if layer not in both:
            tables[layer] = torch.ones(1, plan.steps, len(places))
            continue
        mine, theirs = strengths[layer]
        chosen = [content if mine >= theirs * bound else other for bound in bounds]
        tables[layer] = torch.tensor([[[float(place == now) for place in places] for now in chosen]])
    return tables
