"""Distances and similarities of feature vectors: plain arrays in, numbers out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]


def unit(features: Floats) -> NDArray[np.float64]:
    """Return vectors (last axis) at length 1.

    Lengths and products are taken in float64: in half precision they shift every cosine the same way.

    Raises:
        ValueError: a vector of length 0 or with a value that is not finite has no direction.
    """
    wide = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("a feature vector is zero or not finite, so it has no direction")
    return np.asarray(wide / lengths, dtype=np.float64)


def cosine(left: Floats, right: Floats) -> NDArray[np.float64]:
    """Return the cosine between vectors of equal place, shape (..., d) and (..., d) to (...), in [-1, 1]."""
    return np.asarray(np.clip((unit(left) * unit(right)).sum(axis=-1), -1.0, 1.0), dtype=np.float64)


def cosine_matrix(left: Floats, right: Floats) -> NDArray[np.float64]:
    """Return the cosine of every vector of `left` with every one of `right`: (n, d) and (m, d) to (n, m), in [-1, 1]."""
    return np.asarray(np.clip(unit(left) @ unit(right).T, -1.0, 1.0), dtype=np.float64)


def mean_cosine(image: Floats, references: Sequence[Floats]) -> float:
    """Return the mean cosine of one vector d with n >= 1 others of the same length, in [-1, 1]."""
    return float(cosine_matrix(image[None, :], np.asarray(np.stack(references), dtype=np.float64)).mean())


def vendi(features: Floats) -> float:
    """Return how many different vectors n x d (n >= 1) are worth, in [1, n]: 1 for copies, n where all are orthogonal.

    The exponential of the entropy of the eigenvalues of the cosines over n (Friedman and Dieng 2023, definition 3.1).
    """
    shares = np.linalg.eigvalsh(cosine_matrix(features, features) / len(features))
    # rounding makes zeros slightly negative; they count for nothing
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def distance_to_others(features: Floats) -> NDArray[np.float64]:
    """Return 1 - the mean cosine of each vector with all the others, n x d (n >= 2) to n, in [0, 2].

    Their mean is 1 - the mean cosine over all pairs.
    """
    matrix = cosine_matrix(features, features)
    others = matrix[~np.eye(len(matrix), dtype=bool)].reshape(len(matrix), -1)
    return np.asarray(1 - others.mean(axis=1), dtype=np.float64)
