"""Truncated SVD of the sum of the LoRAs."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.lowrank import cut, side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer

Rank = Annotated[int, Field(ge=1)]


@merge_method(
    acts_on="weights",
    source="Eckart and Young 1936, Psychometrika 1; by way of QR as in Halko et al. 2011, arXiv 0909.4061",
    factors_reason="its rank is that of the LoRAs unless it is given; give rank",
    difference=(
        "peft 0.21 truncates the same sum (0.00 apart); peft up to 0.20 multiplied alpha / rank twice in all methods that "
        "use an SVD."
    ),
)
def svd(parts: Sequence[Factors], layer: Layer, *, rank: Rank | None = None) -> Factors:
    """Return the best approximation of the sum at `rank`; the default is the largest rank among the layer's LoRAs, as in peft.

    With a rank of at least the sum of ranks it equals the direct merge. The squared norm kept is reported in the provenance.
    """
    merged, retained, total = cut(side_by_side(parts), rank or max(part.rank for part in parts))
    layer.report(retained, total)
    return merged
