"""Linear algebra on LoRA factors without dense matrices.

Everything runs on the CPU, so that results do not depend on the device. Gram matrices are computed and decomposed in float64,
which resolves singular values down to 1e-8 of the largest; a decomposition in float32 would not be more accurate.
"""

from collections.abc import Sequence

import torch
from scipy.linalg import eigh
from torch import Tensor

from generation.lora.factors import Factors

# Relative singular value below which a direction is rounding of float32 factors.
NEGLIGIBLE = 1e-6


def side_by_side(parts: Sequence[Factors]) -> Factors:
    """Return the sum of the parts as one pair of factors whose rank is the sum of their ranks."""
    return Factors(torch.cat([part.down for part in parts]), torch.cat([part.up for part in parts], dim=1))


def flat(part: Factors) -> Factors:
    """Return the factors as float64 matrices, `down` [rank, inputs] with the kernel of a convolution flattened."""
    return Factors(part.down.flatten(1).to("cpu", torch.float64), part.up.to("cpu", torch.float64))


def shaped(down: Tensor, up: Tensor, like: Factors) -> Factors:
    """Return matrices as float32 factors on the device and with the kernel shape of `like`."""
    window = like.down.shape[1:]
    return Factors(down.to(like.down).view(down.shape[0], *window), up.to(like.up))


def thin_svd(part: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return U [outputs, s], S [s] and V [inputs, s] of up @ down, both flat, without negligible directions.

    With up = Q_B R_B and down^T = Q_A R_A, only the small R_B R_A^T is decomposed.
    """
    left, upper = torch.linalg.qr(part.up)
    right, lower = torch.linalg.qr(part.down.T)
    u, s, vt = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    significant = _significant(s)
    return left @ u[:, significant], s[significant], right @ vt[significant].T


def span(columns: Tensor) -> Tensor:
    """Return the significant left singular vectors of a matrix, strongest first; [rows, s]."""
    outer, inner = torch.linalg.qr(columns)
    u, s, _ = torch.linalg.svd(inner, full_matrices=False)
    basis: Tensor = outer @ u[:, _significant(s)]
    return basis


def axes(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return U, the significant left singular vectors of a float32 matrix, and U^T columns; [rows, s], [s, columns].

    Both come from the eigenvectors of the smaller Gram matrix. Deviations of U from orthonormality belong to directions of
    nearly zero weight.
    """
    exact = columns.to("cpu", torch.float64)
    if columns.shape[1] >= columns.shape[0]:
        values, vectors = _descending(exact @ exact.T)
        basis = vectors[:, _significant(values.sqrt())].float()
        return basis, basis.T @ columns
    values, vectors = _descending(exact.T @ exact)
    significant = _significant(values.sqrt())
    s, v = values[significant].sqrt(), vectors[:, significant]
    return columns @ (v / s).float(), (s[:, None] * v.T).float()


def inner_products(parts: Sequence[Factors]) -> Tensor:
    """Return the Frobenius inner products of changes, [parts, parts]; all of them from `flat`."""
    ups, downs = torch.cat([part.up for part in parts], dim=1), torch.cat([part.down for part in parts])
    products = (ups.T @ ups) * (downs @ downs.T)
    ranks = [part.rank for part in parts]
    rows = torch.stack([rows.sum(0) for rows in torch.split(products, ranks)])
    return torch.stack([columns.sum(1) for columns in torch.split(rows, ranks, dim=1)], dim=1)


def nearest_orthonormal(columns: Tensor) -> Tensor:
    """Return the polar factor of a matrix, the nearest one with orthonormal columns (Procrustes).

    Negligible directions are removed.
    """
    u, s, vt = torch.linalg.svd(columns, full_matrices=False)
    significant = _significant(s)
    polar: Tensor = u[:, significant] @ vt[significant]
    return polar


def _significant(s: Tensor) -> Tensor:
    # the first singular value is the largest
    return s > NEGLIGIBLE * s[:1]


def cut(change: Factors | Tensor, rank: int) -> tuple[Factors, float, float]:
    """Return the best approximation of a change at `rank` or less, its squared Frobenius norm, and that of the change.

    The singular vectors are eigenvectors of a Gram matrix: of R x R for factors of rank R, or of the layer's shorter side for a
    dense change or if R is not smaller. Only as many as are needed are computed.
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
    values, vectors = _descending(gram, rank)
    significant = _significant(values.sqrt())
    values, first = values[significant], vectors[:, significant]
    # singular values are split equally between the factors, which suits half precision best
    root = values.sqrt().sqrt()
    up, down = (first * root, (first / root).T @ matrix) if wide else (matrix @ (first / root), (first * root).T)
    like = change if isinstance(change, Factors) else Factors(change, change)
    return shaped(down if right is None else down @ right, up, like), float(values.sum()), float(gram.trace())


def _descending(gram: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of a Gram matrix, largest first; only the first `count` if it is given."""
    size = len(gram)
    if count is None or count >= size:
        values, vectors = eigh(gram.numpy(), driver="evd", check_finite=False)
    else:
        values, vectors = eigh(gram.numpy(), driver="evr", subset_by_index=[size - count, size - 1], check_finite=False)
    return torch.from_numpy(values).flip(0).clamp(min=0), torch.from_numpy(vectors).flip(1)
