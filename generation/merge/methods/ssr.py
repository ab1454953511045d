"""SSR-Merge: route hidden activations to the LoRA that they belong to."""

from collections.abc import Sequence

import torch

from generation.lora.factors import Factors
from generation.merge.calibration import Moments, rewired, ridged
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.gradient_fusion import Alone, Ridge


@merge_method(
    acts_on="calibrated",
    source="Wei et al. 2026, arXiv 2606.10617",
    needs="hidden",
    factors_reason="it routes hidden activations between the two factors",
    difference=(
        "The authors' ridge of 1e-4 is absolute, ours relative to the mean of G's diagonal: 0.00 apart on 200 correlated "
        "inputs per LoRA."
    ),
)
def ssr(parts: Sequence[Factors], layer: Layer, moments: Moments, *, ridge: Ridge = 1e-4, alone: Alone = "fit") -> Factors:
    """Return B Q (G + ridge I)^-1 A of the stacked factors: hidden activations z = A x pass through a router before B.

    G sums z z^T over the images of all LoRAs, Q restricts each LoRA's rows to its own images: the least-squares router that
    passes every z only to its own block. It uses R x R matrices, R the sum of ranks, and supports different ranks. The ridge
    is relative to the mean of G's diagonal; the authors' ridge is absolute. `alone = "keep"` leaves a layer
    that one LoRA alone adapts unchanged, as the authors' code does.
    """
    if alone == "keep" and len(parts) == 1:
        return parts[0]
    stacked = torch.cat(moments.downs).to("cpu", torch.float64)
    return rewired(parts, ridged(moments.own, moments.total, ridge) @ stacked)
