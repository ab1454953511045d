"""The direct merge: the sum of the LoRAs."""

from collections.abc import Sequence

import torch

from generation.lora import Factors
from generation.merge.method import merge_method


@merge_method(acts_on="weights", source="Hu et al. 2022, arXiv 2106.09685; summed as in Ryu 2023, github.com/cloneofsimo/lora")
def direct(parts: Sequence[Factors], rng: torch.Generator) -> Factors:
    """Add the LoRAs up: W0 + sum_j w_j alpha_j / r_j B_j A_j.

    Exact at any ranks: the factors are laid side by side, so the result is a LoRA whose rank is the sum of theirs.
    """
    return Factors(torch.cat([part.down for part in parts]), torch.cat([part.up for part in parts], dim=1))
