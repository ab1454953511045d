"""Direct merge: the sum of the LoRAs."""

from collections.abc import Sequence
from typing import Literal

from generation.lora.factors import Factors
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Hu et al. 2022, arXiv 2106.09685; summed as in Ryu 2023, github.com/cloneofsimo/lora",
    difference="peft adds the active adapters in the same way (0.00 apart); diffusers' `set_adapters` equals it to rounding.",
)
def direct(parts: Sequence[Factors], layer: Layer, *, weights: Literal["sum", "affine"] = "sum") -> Factors:
    """Add the LoRAs: W0 + sum_j w_j alpha_j / r_j B_j A_j.

    The sum is exact at any ranks: the factors are concatenated, so the result is a LoRA whose rank is the sum of the ranks
    (peft's `cat`). `affine` divides the weights of a case by their sum.
    """
    merged = side_by_side(parts)
    return merged if weights == "sum" else Factors(merged.down, merged.up * layer.affine())
