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
    """Return the left singular vectors of a matrix that have weight, by falling weight; [rows, s].

    Those of a matrix with more columns than rows are the eigenvectors of its Gram matrix, at a third of the cost.
    """
    if columns.shape[1] > columns.shape[0]:
        values, vectors = _falling(columns @ columns.T)
        return vectors[:, _weighty(values.sqrt())]
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


def cut(change: Factors | Tensor, rank: int) -> tuple[Factors, float, float]:
    """Return the best approximation of a change that has `rank` at most, its squared Frobenius norm, and the change's own.

    Of a dense change, and of factors whose rank is that of one, singular vectors on the shorter side are the eigenvectors of a
    Gram matrix in float64: exact where it matters, and far cheaper than a decomposition of the whole.
    """
    if isinstance(change, Factors) and change.rank < min(change.up.shape[0], change.down[0].numel()):
        u, s, v = thin_svd(flat(change))
        root = s[:rank].sqrt()
        pair = shaped(root[:, None] * v[:, :rank].T, u[:, :rank] * root, change)
        return pair, float(s[:rank].square().sum()), float(s.square().sum())
    if isinstance(change, Factors):
        factors = flat(change)
        matrix, window, device = factors.up @ factors.down, change.down.shape[1:], change.up.device
    else:
        matrix, window, device = change.flatten(1).to("cpu", torch.float64), change.shape[1:], change.device
    wide = matrix.shape[0] <= matrix.shape[1]
    values, vectors = _falling(matrix @ matrix.T if wide else matrix.T @ matrix)
    kept = min(rank, int(_weighty(values.sqrt()).sum()))
    first = vectors[:, :kept]
    up, down = (first, first.T @ matrix) if wide else (matrix @ first, first.T)
    pair = Factors(down.float().view(kept, *window).to(device), up.float().to(device))
    return pair, float(values[:kept].sum()), float(values.sum())


def _falling(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of a Gram matrix, the largest first."""
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0).clamp(min=0), vectors.flip(1)
