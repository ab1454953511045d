"""Concatenation of LoRA factors."""

from collections.abc import Sequence

from generation.lora.factors import Factors
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Mangrulkar et al. 2022, github.com/huggingface/peft, add_weighted_adapter's type cat",
    difference="peft's method (0.00 apart).",
)
def cat(parts: Sequence[Factors], layer: Layer) -> Factors:
    """Concatenate the factors: A = [A_1; ...; A_k], B = [w_1 s_1 B_1, ..., w_k s_k B_k], peft's exact merge.

    The result equals `direct` with summed weights; the name is the one that peft uses.
    """
    return side_by_side(parts)
