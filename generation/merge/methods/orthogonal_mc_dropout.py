"""Orthogonal Monte Carlo dropout: disjoint dropout masks, so that the LoRAs' outputs are exactly orthogonal."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from torch import Tensor

from generation.merge.dropout_masks import MaskDraws
from generation.merge.dropout_rates import Rates, check_disjoint
from generation.merge.method import merge_method


@merge_method(
    acts_on="outputs",
    source="Zhang et al. 2025, arXiv 2510.03262, section 3, theorems 1 and 2",
    check=check_disjoint,
    difference=(
        "The authors' code draws k dependent Bernoulli masks from torch's global generator, refuses p = 1 - 1/k for some "
        "k by rounding and leaves convolutions out; the share that a LoRA keeps agrees (0.00 apart)."
    ),
)
def orthogonal_mc_dropout(draws: MaskDraws, rates: Sequence[float], *, p: Rates = 0.5) -> list[Tensor]:
    """Assign each output element to at most one LoRA: to LoRA j with probability 1 - p_j, scaled by 1 / (1 - p_j).

    The paper draws k dependent Bernoulli masks. Here one uniform number per element selects its LoRA: the joint distribution
    is the same, at 1/k of the cost. Both need sum(1 - p) <= 1. With p = 1 - 1/k the masks partition all elements. `p` is one
    rate or a list of one per LoRA, each in [0, 1).
    """
    bounds = accumulate((1 - rate for rate in rates), initial=0.0)
    return [draws.share(low, high, 1 / (1 - rate)) for (low, high), rate in zip(pairwise(bounds), rates, strict=True)]
