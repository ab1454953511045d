"""RegMean: the weights whose outputs are closest to every LoRA's on its own inputs."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.calibration import Moments, rewired, ridged
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.gradient_fusion import Alone, Ridge


@merge_method(
    acts_on="calibrated",
    source="Jin et al. 2023, arXiv 2212.09849",
    difference="The authors' code has no ridge: 0.01 apart at the default on 200 correlated inputs per LoRA.",
)
def regmean(
    parts: Sequence[Factors],
    layer: Layer,
    moments: Moments,
    *,
    shrink: Annotated[float, Field(ge=0, le=1)] = 0.9,
    ridge: Ridge = 1e-3,
    alone: Alone = "fit",
) -> Factors:
    """Return W0 + sum_i Delta_i G_i (sum_i G_i)^-1, the off-diagonal entries of each G_i multiplied by `shrink`.

    G_i = X_i X_i^T sums over the layer's inputs while LoRA i generates its concept. A `shrink` of 0.9 is common in code that
    follows the paper; with 1 this is the closed form of `gradient_fusion`. The ridge, ours, keeps layers with few inputs
    solvable.
    `alone = "keep"` leaves a layer that one LoRA alone adapts unchanged, as the authors' code does.
    """
    if alone == "keep" and len(parts) == 1:
        return parts[0]
    # LoRAs that do not adapt the layer contribute only to the total
    total = shrink * moments.total
    total.diagonal().add_((1 - shrink) * moments.total.diagonal())
    sums = zip(moments.own, moments.downs, moments.squares, strict=True)
    own = [shrink * one + (1 - shrink) * down * squares for one, down, squares in sums]
    return rewired(parts, ridged(own, total, ridge))
