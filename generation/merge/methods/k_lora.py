"""K-LoRA: the subject or the style, chosen per layer and step."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from generation.merge.method import merge_method
from generation.merge.method_inputs import StepPlan
from generation.merge.role_pairs import pair_of


@merge_method(
    acts_on="steps",
    source="Ouyang et al. 2025, arXiv 2502.18461",
    check=pair_of("k_lora", "one of them the style"),
    factors_reason="it compares the r_c r_s largest entries of two changes, r their ranks",
    difference=(
        "The authors' default decides differently in 0.37 of calls of 48 layers on random LoRAs, and in 0.01 with "
        '`pattern = "authors"`: their time advances with every call of a layer, ours with every step.'
    ),
)
def k_lora(
    plan: StepPlan,
    *,
    alpha: Annotated[float, Field(ge=0)] = 1.5,
    beta: Annotated[float, Field(ge=0)] | None = None,
    style: Literal["first", "second"] = "second",
    pattern: Literal["paper", "authors"] = "paper",
) -> Mapping[str, Tensor]:
    """Let the subject act in a layer if S_c >= S_s gamma (alpha t / T + beta), else the style, after t of T steps.

    S is the sum of the K largest absolute entries of a LoRA's change, K = r_c r_s. gamma is the ratio of all absolute entries,
    subject to style, over all layers that both adapt. Steps are counted as steps, so any number of them and any sampler work;
    the authors' code counts layer calls and fits only 50 steps of SDXL. Two more differences: changes include weight and alpha
    / rank, and all layers take part, not only attention. A LoRA that is alone in a layer always acts there. Text encoders use
    the choice of the first step.

    `pattern = "authors"` follows their default, which differs from the paper: gamma is the mean of the layers' ratios, outliers
    of three times the mean left out, and alpha t / T + beta is taken modulo alpha. Without `beta` it is 0.5 in the paper's
    pattern and 0.85 alpha in the authors'.
    """
    if beta is None:
        beta = 0.5 if pattern == "paper" else 0.85 * alpha
    both = sorted(layer for layer, positions in plan.layers.items() if len(positions) == 2)
    first, second = plan.order[0], plan.order[-1]
    content, other = (first, second) if style == "second" else (second, first)
    strengths, totals = {}, torch.zeros(2, dtype=torch.float64)
    ratios = []
    for layer in both:
        parts = [plan.part(layer, position) for position in (content, other)]
        sizes = [part.dense().abs().flatten() for part in parts]
        largest = min(parts[0].rank * parts[1].rank, len(sizes[0]))
        strengths[layer] = [float(size.topk(largest).values.sum(dtype=torch.float64)) for size in sizes]
        whole = [float(size.sum(dtype=torch.float64)) for size in sizes]
        totals += torch.tensor(whole)
        if whole[1] > 0:
            ratios.append(whole[0] / whole[1])
    gamma = float(totals[0] / totals[1]) if totals[1] > 0 else 0.0
    scales = [alpha * step / plan.steps + beta for step in range(plan.steps)]
    if pattern == "authors":
        gamma, scales = _mean_ratio(ratios), [scale % alpha if alpha else scale for scale in scales]
    bounds = [gamma * scale for scale in scales]
    tables = {}
    for layer, positions in plan.layers.items():
        if layer not in both:
            tables[layer] = torch.ones(1, plan.steps, len(positions))
            continue
        mine, theirs = strengths[layer]
        chosen = [content if mine >= theirs * bound else other for bound in bounds]
        tables[layer] = torch.tensor([[[float(position == now) for position in positions] for now in chosen]])
    return tables


def _mean_ratio(ratios: list[float]) -> float:
    """Return the mean of the layers' ratios without those of at least three times their mean; 0 if there is none."""
    if not ratios:
        return 0.0
    mean = sum(ratios) / len(ratios)
    usual = [ratio for ratio in ratios if ratio < 3 * mean] or ratios
    return sum(usual) / len(usual)
