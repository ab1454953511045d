"""SSR-Merge: send what the LoRAs' first factors see to the LoRA it belongs to."""

from collections.abc import Sequence

import torch

from generation.lora_file import Factors
from generation.merge.calibration import Moments, rewired, ridged
from generation.merge.layer import Layer
from generation.merge.method import merge_method
from generation.merge.methods.gradient_fusion import Ridge


@merge_method(acts_on="calibrated", source="Wei et al. 2026, arXiv 2606.10617", needs="hidden")
def ssr(parts: Sequence[Factors], layer: Layer, moments: Moments, *, ridge: Ridge = 1e-4) -> Factors:
    """Return B Q (G + ridge I)^-1 A of the stacked factors: hidden activations z = A x go through a router before B.

    G sums z z^T over all LoRAs' own drawings, Q the part of it that each LoRA's block has in its own: the least-squares router
    that passes every z to its own block only. It needs matrices of R x R, R the sum of ranks, and any ranks will do. The ridge
    is relative to the mean of G's diagonal; the authors' is absolute.
    """
    stacked = torch.cat(moments.downs).to("cpu", torch.float64)
    return rewired(parts, ridged(moments.own, moments.total, ridge) @ stacked)
