"""BlockLoRA: sum of LoRAs that were trained in disjoint row blocks."""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from torch import Tensor

from evalkit.errors import UserError
from generation.lora.factors import Factors
from generation.merge.lora_header import check_apart, check_same, header_values
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Zhu et al. 2025, BlockLoRA, section 3.3, equations 2 and 4",
    difference="We know of no published code; the paper's equations 2 and 4 agree (0.00 apart).",
)
def blocklora(parts: Sequence[Factors], layer: Layer, *, weights: Literal["affine", "sum"] = "affine") -> Factors:
    """Add LoRAs with disjoint rows: W0 + sum_i a_i (M_i * B_i) A_i, M_i the row block of LoRA i's slot.

    With `affine`, the paper's choice, the weights a_i sum to 1: among 15 LoRAs each acts at 1/15 of its strength although no
    rows overlap. With `sum`, each LoRA acts at its trained strength. Use `block_rows` for LoRAs that were trained without
    blocks.

    Raises:
        UserError: a LoRA was not trained in a slot, two share a slot, or their slot layouts differ.
    """
    slots = header_values(layer, "slot", "BlockLoRA")
    check_same(layer, header_values(layer, "slots", "BlockLoRA"), "slots: the number of row blocks")
    check_same(layer, header_values(layer, "block_rule", "BlockLoRA"), "block_rule: how rows are cut into blocks")
    check_apart(layer, slots)
    for (one, first), (other, second) in combinations(zip(layer.places, map(_rows, parts), strict=True), 2):
        if bool((first & second).any()):
            names = " and ".join(layer.loras[position].path.name for position in (one, other))
            raise UserError(f"{layer.name}: {names} change the same rows although their slots differ; train them again")
    merged = side_by_side(parts)
    return merged if weights == "sum" else Factors(merged.down, merged.up * layer.affine())


def _rows(part: Factors) -> Tensor:
    return part.up.ne(0).any(dim=1)
