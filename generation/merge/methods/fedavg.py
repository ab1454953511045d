"""Federated averaging: weights that sum to 1, or one common factor."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer

Scale = Annotated[float, Field(gt=0, le=100)]


@merge_method(
    acts_on="weights",
    source="McMahan et al. 2017, arXiv 1602.05629; Gu et al. 2023, arXiv 2305.18292; Po et al. 2024, arXiv 2312.02432",
    difference=(
        "Mix-of-Show's code averages in the same way (0.00 apart), but its files are scaled by alpha instead of alpha / rank."
    ),
)
def fedavg(parts: Sequence[Factors], layer: Layer, *, scale: Scale | None = None) -> Factors:
    """Average the LoRAs: W0 + sum_j a_j Delta_j with a_j = w_j / sum w, or with a_j = scale * w_j.

    Without `scale` this is the weighted averaging of Mix-of-Show (Gu et al.) and BlockLoRA's equation 2. With it, this is the
    merge of Orthogonal Adaptation (Po et al., scale 0.6). Weights are normalised over the whole case: a LoRA that is alone in
    a layer still acts at its share.
    """
    merged = side_by_side(parts)
    return Factors(merged.down, merged.up * (layer.affine() if scale is None else scale))
