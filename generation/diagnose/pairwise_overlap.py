"""Two LoRAs in one layer: how alike their changes are, and how much one acts on what the other reads."""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from generation.lora.factors import Factors, Lora
from generation.merge.lowrank import flat, span


@dataclass(frozen=True)
class PairOverlap:
    """One layer of two LoRAs: cosine in -1 .. 1, the rest in 0 .. 1."""

    layer: str
    first: str
    second: str
    cosine: float
    input_overlap: float
    output_overlap: float
    crosstalk: float


def pairs(loras: dict[str, Lora]) -> list[PairOverlap]:
    """Return the overlap of every two LoRAs in every layer that both adapt, except layers in which one of them is zero."""
    rows = []
    for (first, one), (second, other) in combinations(loras.items(), 2):
        for layer in sorted(set(one.layers) & set(other.layers)):
            a, b = flat(one.part(layer)), flat(other.part(layer))
            if inner(a, a) > 0 and inner(b, b) > 0:
                overlap = subspace_overlap(a.down.T, b.down.T), subspace_overlap(a.up, b.up)
                rows.append(PairOverlap(layer, first, second, cosine(a, b), *overlap, crosstalk(a, b)))
    return rows


def inner(a: Factors, b: Factors) -> float:
    """Return <B_a A_a, B_b A_b>_F = sum((B_a^T B_b) * (A_a A_b^T)), without making either product; both from `flat`."""
    return float(((a.up.T @ b.up) * (a.down @ b.down.T)).sum())


def cosine(a: Factors, b: Factors) -> float:
    """Return the cosine of two changes of a weight, taken as vectors (BlockLoRA, Figure 4)."""
    return inner(a, b) / math.sqrt(inner(a, a) * inner(b, b))


def subspace_overlap(a: Tensor, b: Tensor) -> float:
    """Return ||Q_a^T Q_b||_F^2 / min(rank), the mean squared cosine of the angles between two column spaces.

    It is 1 if one space contains the other; two random spaces of rank r in n dimensions have r / n.
    """
    one, other = span(a), span(b)
    return float(((one.T @ other) ** 2).sum() / min(one.shape[1], other.shape[1]))


def crosstalk(a: Factors, b: Factors) -> float:
    """Return ||Delta_a Delta_b^T||_F / (||Delta_a||_F ||Delta_b||_F): the effect of each on inputs that the other reads.

    Po et al. 2024 measure ||Delta_b x_a|| on inputs; here the rows of the changes replace the inputs. It is 0 for LoRAs of
    Orthogonal Adaptation in different slots.
    """
    left, right = torch.linalg.qr(a.up).R, torch.linalg.qr(b.up).R
    through = left @ (a.down @ b.down.T) @ right.T
    return float(torch.linalg.norm(through)) / math.sqrt(inner(a, a) * inner(b, b))
