"""Orthogonal Adaptation: LoRAs that were trained to read inputs of their own."""

from collections.abc import Sequence
from itertools import combinations

from torch.nn.functional import normalize

from evalkit.errors import UserError
from generation.lora_file import Factors
from generation.merge.layer import Layer
from generation.merge.lora_header import check_apart, check_same, noted
from generation.merge.method import merge_method
from generation.merge.methods.fedavg import Scale, fedavg

# Cosine of the smallest angle between rows that float32 rounding explains.
SHARED = 1e-3


@merge_method(acts_on="weights", source="Po et al. 2024, arXiv 2312.02432")
def orthogonal_adaptation(parts: Sequence[Factors], layer: Layer, *, scale: Scale = 0.6) -> Factors:
    """Add LoRAs whose inputs are orthogonal, W0 + sum_i scale w_i Delta_i, each Delta_i reading rows of one shared basis.

    The paper's scale is 0.6 for every merge it compares. LoRAs of different slots read nothing in common; with the paper's
    random rows some may be shared by chance. The basis is checked by the sha256 that each file states for each width.

    Raises:
        UserError: a LoRA was not trained on a basis, the bases differ, or the rows of two slots meet.
    """
    bases = noted(layer, "basis", "of Orthogonal Adaptation")
    width = str(parts[0].down[0].numel())
    here = {place: bases[place].get("sha256", {}).get(width) for place in layer.places}
    if None in here.values():
        raise UserError(f"{layer.name}: the header of a LoRA that adapts it names no basis of {width} inputs; is it whole?")
    check_same(layer, here, f"{layer.name}: the basis of {width} inputs")
    slots = {place: basis.get("slot") for place, basis in bases.items()}
    check_same(layer, {place: slot is None for place, slot in slots.items()}, "basis: random rows or slots")
    if None not in slots.values():
        check_apart(layer, slots)
        for (one, first), (other, second) in combinations(zip(layer.places, parts, strict=True), 2):
            if _common(first, second) > SHARED:
                names = " and ".join(layer.loras[place].path.name for place in (one, other))
                raise UserError(f"{layer.name}: {names} read common inputs, though their slots differ; train them at one rank")
    averaged: Factors = fedavg.function(parts, layer, scale=scale)
    return averaged


def _common(one: Factors, other: Factors) -> float:
    rows = [normalize(part.down.flatten(1)) for part in (one, other)]
    return float((rows[0] @ rows[1].T).abs().max())
