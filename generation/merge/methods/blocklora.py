"""BlockLoRA: LoRAs that were trained in row blocks of their own."""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from torch import Tensor

from evalkit.errors import UserError
from generation.lora_file import Factors
from generation.merge.layer import Layer
from generation.merge.lora_header import check_apart, check_same, noted
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method


@merge_method(acts_on="weights", source="Zhu et al. 2025, BlockLoRA, section 3.3, equations 2 and 4")
def blocklora(parts: Sequence[Factors], layer: Layer, *, weights: Literal["affine", "sum"] = "affine") -> Factors:
    """Add LoRAs whose rows never meet: W0 + sum_i a_i (M_i * B_i) A_i, each M_i a slot's block of rows.

    `affine` shares add up to one, as the paper writes it: among 15 LoRAs each acts at 1/15 of its strength, though no rows
    meet. With `sum` each acts as it was trained. For LoRAs trained without blocks there is `block_rows`.

    Raises:
        UserError: a LoRA was not trained in a slot, two were in the same one, or the slots were laid out differently.
    """
    slots = noted(layer, "slot", "of BlockLoRA")
    check_same(layer, noted(layer, "slots", "of BlockLoRA"), "slots: the number of row blocks")
    check_same(layer, noted(layer, "block_rule", "of BlockLoRA"), "block_rule: how rows are cut into blocks")
    check_apart(layer, slots)
    for (one, first), (other, second) in combinations(zip(layer.places, map(_rows, parts), strict=True), 2):
        if bool((first & second).any()):
            names = " and ".join(layer.loras[place].path.name for place in (one, other))
            raise UserError(f"{layer.name}: {names} write the same rows, though their slots differ; are they whole?")
    merged = side_by_side(parts)
    return merged if weights == "sum" else Factors(merged.down, merged.up * layer.affine())


def _rows(part: Factors) -> Tensor:
    return part.up.ne(0).any(dim=1)
