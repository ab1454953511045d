"""Karcher mean of the LoRAs' directions."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.lowrank import flat, inner_products, side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Karcher 1977, doi 10.1002/cpa.3160300502; as mergekit applies it to models",
    difference=(
        "mergekit takes the mean of whole weights, which for small changes is nearly their plain average: 0.48 apart "
        "relative to it."
    ),
)
def karcher(parts: Sequence[Factors], layer: Layer, *, iterations: Annotated[int, Field(ge=1, le=1000)] = 100) -> Factors:
    """Return the Riemannian mean of the changes' directions on the unit sphere, times the mean of their norms.

    mergekit takes the mean of whole weights; here changes are averaged, so the base model is not involved. All LoRAs of a layer
    count equally; weights scale the norms. The mean is in the span of the changes, so only their R x R products are needed, and
    the result is a LoRA. Opposite directions have no mean; iterations then stop at their sum.
    """
    gram = inner_products([flat(part) for part in parts])
    norms = gram.diagonal().clamp(min=0).sqrt()
    active = norms > 0
    if not bool(active.any()):
        return side_by_side(parts)
    # coordinates of the mean in the unit changes, and their products
    unit = torch.where(active[:, None] & active[None], gram / (norms[:, None] * norms[None]).clamp(min=1e-30), 0.0)
    weights = active.to(gram)
    count = float(weights.sum())
    mean = weights / count
    for _ in range(iterations):
        length = (mean @ unit @ mean).clamp(min=0).sqrt()
        if float(length) < 1e-12:
            break
        mean = mean / length
        angles = (unit @ mean).clamp(-1, 1).acos()
        factor = torch.where(angles > 1e-6, angles / angles.sin().clamp(min=1e-12), 1.0) * weights
        # tangent step of size 1: sum_i factor_i (x_i - cos_i m) / count
        step = factor / count - mean * (factor * angles.cos()).sum() / count
        size = (step @ unit @ step).clamp(min=0).sqrt()
        if float(size) < 1e-10:
            break
        mean = mean * size.cos() + step * (size.sin() / size)
    scale = torch.where(active, mean / norms.clamp(min=1e-30), 0.0) * norms[active].mean()
    return side_by_side([Factors(part.down, part.up * float(one)) for part, one in zip(parts, scale, strict=True)])
