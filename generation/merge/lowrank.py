"""Small linear algebra on LoRA factors: what a singular value decomposition says, without ever making a dense one.

All of it on the CPU, so that the result does not depend on the device. Gram matrices are made and decomposed in float64: they
then tell singular values down to 1e-8 of the largest, which a decomposition in float32 would not better.
"""

from collections.abc import Sequence

import torch
from scipy.linalg import eigh
from torch import Tensor

from generation.lora_file import Factors

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


def axes(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return U, the left singular vectors of a float32 matrix that have weight, and U^T columns; [rows, s], [s, columns].

    Both come from the eigenvectors of the smaller Gram matrix. Columns of U are as orthonormal as their weight can tell: what
    is off belongs to directions of next to none.
    """
    exact = columns.to("cpu", torch.float64)
    if columns.shape[1] >= columns.shape[0]:
        values, vectors = _falling(exact @ exact.T)
        basis = vectors[:, _weighty(values.sqrt())].float()
        return basis, basis.T @ columns
    values, vectors = _falling(exact.T @ exact)
    kept = _weighty(values.sqrt())
    s, v = values[kept].sqrt(), vectors[:, kept]
    return columns @ (v / s).float(), (s[:, None] * v.T).float()


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

    The singular vectors are eigenvectors of a Gram matrix: of R x R, R the rank of factors, or of the layer's shorter side for
    a dense change and where R is no smaller. Only as many as are kept are found.
    """
    if isinstance(change, Factors) and change.rank < min(change.up.shape[0], change.down[0].numel()):
        factors = flat(change)
        right, lower = torch.linalg.qr(factors.down.T)
        matrix, right = factors.up @ lower.T, right.T
    else:
        dense = change.dense() if isinstance(change, Factors) else change
        matrix, right = dense.flatten(1).to("cpu", torch.float64), None
    wide = matrix.shape[0] <= matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    values, vectors = _falling(gram, rank)
    kept = _weighty(values.sqrt())
    values, first = values[kept], vectors[:, kept]
    # the singular values stand in equal parts in both factors, which half precision holds best
    root = values.sqrt().sqrt()
    up, down = (first * root, (first / root).T @ matrix) if wide else (matrix @ (first / root), (first * root).T)
    like = change if isinstance(change, Factors) else Factors(change, change)
    return shaped(down if right is None else down @ right, up, like), float(values.sum()), float(gram.trace())


def _falling(gram: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of a Gram matrix, the largest first; the first `count` of them where it is given."""
    size = len(gram)
    if count is None or count >= size:
        values, vectors = eigh(gram.numpy(), driver="evd", check_finite=False)
    else:
        values, vectors = eigh(gram.numpy(), driver="evr", subset_by_index=[size - count, size - 1], check_finite=False)
    return torch.from_numpy(values).flip(0).clamp(min=0), torch.from_numpy(vectors).flip(1)
