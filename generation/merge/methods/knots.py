"""KnOTS: align all LoRAs in one output basis before merging entries."""

from collections.abc import Sequence
from typing import Literal

import torch

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, agreeing_mean, combined, keep_at_random, keep_largest
from generation.merge.lowrank import axes, shaped
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(acts_on="weights", source="Stoica et al. 2025, arXiv 2410.19735")
def knots(
    parts: Sequence[Factors], layer: Layer, *, operator: Literal["ties", "dare_ties"] = "ties", density: Density = 0.5
) -> Factors:
    """Decompose [Delta_1 ... Delta_k] = U S [V_1 ... V_k], merge the S V_j by `operator`, and return U times the result.

    `density` has the meaning it has in `ties` and `dare_ties`; the paper searches it per task, the default is ours. U comes
    from an R x R matrix, R the sum of ranks, never from dense changes. A LoRA that is alone in a layer is pruned in its own
    basis.
    """
    # Delta_j = up_j R_j^T Q_j^T with down_j^T = Q_j R_j: the Q_j turn no left singular vector
    turned = [torch.linalg.qr(part.down.flatten(1).T.cpu()) for part in parts]
    ups = [part.up.cpu() @ lower.T for part, (_, lower) in zip(parts, turned, strict=True)]
    left, inner = axes(torch.cat(ups, dim=1))
    pieces = torch.split(inner, [up.shape[1] for up in ups], dim=1)
    rotated = [Factors(right.T, piece) for (right, _), piece in zip(turned, pieces, strict=True)]
    prune = keep_largest(density) if operator == "ties" else keep_at_random(density, layer.generator())
    return shaped(combined(rotated, prune, agreeing_mean), left, parts[0])
