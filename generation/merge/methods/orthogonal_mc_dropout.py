"""Orthogonal Monte Carlo dropout: dropout masks that never overlap, so LoRAs' outputs are orthogonal exactly."""

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
)
def orthogonal_mc_dropout(draws: MaskDraws, rates: Sequence[float], *, p: Rates = 0.5) -> list[Tensor]:
    """Give each output element to one LoRA at most: to LoRA j with probability 1 - p_j, scaled by 1 / (1 - p_j).

    The paper draws k dependent Bernoulli masks. One uniform number per element that decides its owner follows the same joint
    law, is k times cheaper, and needs sum(1 - p) <= 1 just as they do. With p = 1 - 1/k the masks partition all elements.
    """
    bounds = accumulate((1 - rate for rate in rates), initial=0.0)
    return [draws.share(low, high, 1 / (1 - rate)) for (low, high), rate in zip(pairwise(bounds), rates, strict=True)]
