"""Monte Carlo dropout: an independent dropout mask on the output of every LoRA."""

from collections.abc import Sequence

from torch import Tensor

from generation.merge.dropout_masks import MaskDraws
from generation.merge.dropout_rates import Rates, check_count
from generation.merge.method import merge_method


@merge_method(
    acts_on="outputs",
    source="Zhang et al. 2025, arXiv 2510.03262, equation 1",
    check=check_count,
    difference=(
        "The authors' code draws masks from torch's global generator and leaves convolutions and the scales of rank- "
        "stabilised LoRAs out; the share of elements that a LoRA keeps agrees (0.00 apart)."
    ),
)
def mc_dropout(draws: MaskDraws, rates: Sequence[float], *, p: Rates = 0.5) -> list[Tensor]:
    """Keep each output element with probability 1 - p, scaled by 1 / (1 - p), independently for every LoRA.

    `p` is one rate or a list of one per LoRA, each in [0, 1). A layer that only one LoRA adapts is also masked, as in the
    authors' code.
    """
    return [draws.share(0, 1 - rate, 1 / (1 - rate), draw=position) for position, rate in enumerate(rates)]
