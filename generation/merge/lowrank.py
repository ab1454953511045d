"""Small linear algebra on LoRA factors: what a singular value decomposition says, without ever making a dense one.

All of it in float64 on the CPU: a layer takes milliseconds there, and the result does not depend on the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from generation.lora import Factors

# Directions this much weaker than the strongest are rounding of float32 factors, not content.
NEGLIGIBLE = 1e-6


def side_by_side(parts: Sequence[Factors]) -> Factors:
    """Return the sum of the parts as one pair of factors, its rank the sum of theirs."""
    return Factors(torch.cat([part.down for part in parts]), torch.cat([part.up for part in parts], dim=1))


def flat(part: Factors) -> Factors:
    """Return the factors as float64 matrices, `down` [rank, inputs] with a convolution's window laid flat."""
    return Factors(part.down.flatten(1).to("cpu", torch.float64), part.up.to("cpu", torch.float64))


def shaped(down: Tensor, up: Tensor, like: Factors) -> Factors:
    """Return matrices as float32 factors on the device and with the window of `like`."""
    window = like.down.shape[1:]
    return Factors(down.to(like.down).view(down.shape[0], *window), up.to(like.up))


def thin_svd(part: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return U [outputs, s], S [s] and V [inputs, s] of up @ down, both flat, without directions of no weight.

    With up = Q_B R_B and down^T = Q_A R_A, only the small R_B R_A^T needs decomposing.
    """
    left, upper = torch.linalg.qr(part.up)
    right, lower = torch.linalg.qr(part.down.T)
    u, s, vt = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    kept = _weighty(s)
    return left @ u[:, kept], s[kept], right @ vt[kept].T


def span(columns: Tensor) -> Tensor:
    """Return the left singular vectors of a matrix that have weight, by falling weight; [rows, s]."""
    outer, inner = torch.linalg.qr(columns)
    u, s, _ = torch.linalg.svd(inner, full_matrices=False)
    basis: Tensor = outer @ u[:, _weighty(s)]
    return basis


def nearest_orthonormal(columns: Tensor) -> Tensor:
    """Return the polar factor of a matrix: the nearest one whose directions of weight are orthonormal (Procrustes)."""
    u, s, vt = torch.linalg.svd(columns, full_matrices=False)
    kept = _weighty(s)
    polar: Tensor = u[:, kept] @ vt[kept]
    return polar


def _weighty(s: Tensor) -> Tensor:
    # the first is the largest, where there is any
    return s > NEGLIGIBLE * s[:1]
