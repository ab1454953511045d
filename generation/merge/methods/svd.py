"""The sum of the LoRAs, cut to a rank."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from generation.lora_file import Factors
from generation.merge.layer import Layer
from generation.merge.lowrank import cut, side_by_side
from generation.merge.method import merge_method

Rank = Annotated[int, Field(ge=1)]


@merge_method(
    acts_on="weights",
    source="Eckart and Young 1936, Psychometrika 1; by way of QR as in Halko et al. 2011, arXiv 0909.4061",
)
def svd(parts: Sequence[Factors], layer: Layer, *, rank: Rank | None = None) -> Factors:
    """Return the best approximation of the sum that has `rank`; without it, the largest rank among the layer's LoRAs.

    That default is peft's. A rank of the sum of ranks or more is the direct merge. Reports the squared norm kept.
    """
    merged, kept, total = cut(side_by_side(parts), rank or max(part.rank for part in parts))
    layer.report(kept, total)
    return merged
