"""KnOTS: rotate all LoRAs into one basis of outputs before their entries meet."""

from collections.abc import Sequence
from typing import Literal

import torch

from generation.lora import Factors
from generation.merge.entries import Density, agreeing_mean, combined, keep_at_random, keep_largest
from generation.merge.layer import Layer
from generation.merge.lowrank import flat, shaped, span
from generation.merge.method import merge_method


@merge_method(acts_on="weights", source="Stoica et al. 2025, arXiv 2410.19735")
def knots(
    parts: Sequence[Factors], layer: Layer, *, operator: Literal["ties", "dare_ties"] = "ties", density: Density = 0.5
) -> Factors:
    """Decompose [Delta_1 ... Delta_k] = U S [V_1 ... V_k], merge the S V_j by `operator`, and return U times the result.

    `density` as in `ties` and `dare_ties`; the paper searches it per task, the default is ours. U comes from a matrix of R x R,
    R the sum of ranks, never from dense changes. A LoRA that is alone in a layer is pruned in its own basis.
    """
    matrices = [flat(part) for part in parts]
    outer, inner = torch.linalg.qr(torch.cat([part.up for part in matrices], dim=1))
    pieces = torch.split(inner, [part.rank for part in matrices], dim=1)
    # Delta_j = outer piece_j R_j^T Q_j^T with down_j^T = Q_j R_j: the Q_j turn no left singular vector
    triangles = [torch.linalg.qr(part.down.T).R.T for part in matrices]
    left = outer @ span(torch.cat([piece @ triangle for piece, triangle in zip(pieces, triangles, strict=True)], dim=1))
    prune = keep_largest(density) if operator == "ties" else keep_at_random(density, layer.generator())
    rotated = [Factors(part.down, left.T @ part.up) for part in matrices]
    return shaped(combined(rotated, prune, agreeing_mean), left, parts[0])
