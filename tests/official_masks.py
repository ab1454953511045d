"""The paper's own construction of its masks, to hold ours against: k dependent Bernoulli draws from one generator."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def dropout_masks(shape: Sequence[int], rates: Sequence[float], rng: Generator) -> list[Tensor]:
    """Return one independent mask per LoRA, 1 with probability 1 - p_j (Zhang et al. 2025, arXiv 2510.03262, equation 1)."""
    return [torch.bernoulli(torch.full(tuple(shape), 1 - rate), generator=rng) for rate in rates]


def orthogonal_masks(shape: Sequence[int], rates: Sequence[float], rng: Generator) -> list[Tensor]:
    """Return masks of which at most one is 1 at any element (Zhang et al. 2025, section 3).

    z_1 ~ Ber(1 - p_1), z_j ~ Ber((1 - p_j) / (sum_{l<j} p_l - (j - 2))); LoRA j gets prod_{l<j} (1 - z_l) z_j.
    """
    masks: list[Tensor] = []
    free = torch.ones(tuple(shape))
    for place, rate in enumerate(rates):
        left = sum(rates[:place]) - (place - 1)
        # the share of what is left that makes P(mask_j = 1) = 1 - p_j; rounding may push it past 1
        draw = torch.bernoulli(torch.full(tuple(shape), min(1.0, (1 - rate) / left)), generator=rng)
        masks.append(free * draw)
        free = free * (1 - draw)
    return masks
