"""Histograms of latent values and how far one is from another (NCR, arXiv 2506.06483, Figure 6).

The paper states neither bins nor direction; here 200 bins on [-5, 5] and one beyond each end, and KL(images || others).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BINS, REACH, SMOOTHING = 200, 5.0, 1e-6
# bins on [-5, 5], and one beyond each end
EDGES = np.concatenate([[-np.inf], np.linspace(-REACH, REACH, BINS + 1), [np.inf]])
Counts: TypeAlias = NDArray[np.float64]


def binned(latents: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return, per channel, how many values of c x h x w latents fall into each bin: c x 202."""
    return np.stack([np.histogram(channel, EDGES)[0] for channel in latents])


def density(counts: Counts) -> Counts:
    """Return counts per bin as shares, with 1e-6 added to each so that none is zero."""
    share: Counts = counts / counts.sum() + SMOOTHING
    share /= share.sum()
    return share


def kullback_leibler(p: Counts, q: Counts) -> float:
    """Return sum p log(p / q)."""
    return float((p * np.log(p / q)).sum())
