"""Orthogonal Adaptation: sum of LoRAs that were trained on orthogonal inputs."""

from collections.abc import Sequence
from itertools import combinations

from torch.nn.functional import normalize

from evalkit.errors import UserError
from generation.lora.factors import Factors
from generation.merge.lora_header import check_apart, check_same, header_values
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.fedavg import Scale, fedavg

# Cosine of the smallest angle between rows that float32 rounding explains.
SHARED = 1e-3


@merge_method(
    acts_on="weights",
    source="Po et al. 2024, arXiv 2312.02432",
    difference="The paper's sum of changes times 0.6 agrees (0.00 apart); token embeddings per layer are not merged here.",
)
def orthogonal_adaptation(parts: Sequence[Factors], layer: Layer, *, scale: Scale = 0.6) -> Factors:
    """Add LoRAs with orthogonal inputs, W0 + sum_i scale w_i Delta_i, each Delta_i reading rows of one shared basis.

    The paper uses scale 0.6 for every merge it compares. LoRAs of different slots share no input direction; the paper's random
    rows may coincide by chance. The basis is checked by the sha256 that each file states for each width.

    Raises:
        UserError: a LoRA was not trained on a basis, the bases differ, or the rows of two slots overlap.
    """
    bases = header_values(layer, "basis", "Orthogonal Adaptation")
    width = str(parts[0].down[0].numel())
    hashes = {position: bases[position].get("sha256", {}).get(width) for position in layer.places}
    if None in hashes.values():
        raise UserError(f"{layer.name}: the header of a LoRA that adapts it has no basis of {width} inputs; train it again")
    check_same(layer, hashes, f"{layer.name}: the basis of {width} inputs")
    slots = {position: basis.get("slot") for position, basis in bases.items()}
    check_same(layer, {position: slot is None for position, slot in slots.items()}, "basis: random rows or slots")
    if None not in slots.values():
        check_apart(layer, slots)
        for (one, first), (other, second) in combinations(zip(layer.places, parts, strict=True), 2):
            if _common(first, second) > SHARED:
                names = " and ".join(layer.loras[position].path.name for position in (one, other))
                raise UserError(f"{layer.name}: {names} read common inputs although their slots differ; train them at one rank")
    averaged: Factors = fedavg.function(parts, layer, scale=scale)
    return averaged


def _common(one: Factors, other: Factors) -> float:
    rows = [normalize(part.down.flatten(1)) for part in (one, other)]
    return float((rows[0] @ rows[1].T).abs().max())
