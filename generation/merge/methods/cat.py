"""The factors of all LoRAs side by side."""

from collections.abc import Sequence

from generation.lora_file import Factors
from generation.merge.layer import Layer
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method


@merge_method(acts_on="weights", source="Mangrulkar et al. 2022, github.com/huggingface/peft, add_weighted_adapter's type cat")
def cat(parts: Sequence[Factors], layer: Layer) -> Factors:
    """Lay the factors side by side: A = [A_1; ...; A_k], B = [w_1 s_1 B_1, ..., w_k s_k B_k], peft's exact merge.

    The same as `direct` with weights summed, under the name that users of peft know.
    """
    return side_by_side(parts)
