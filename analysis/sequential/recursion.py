"""Exit probabilities of a Gaussian random walk with independent increments, by numerical integration.

The sub-density of the score S = Z sqrt(I) on the continuation region is carried from look to look on Gauss-Legendre nodes
(Armitage, McPherson and Rowe 1969, J R Stat Soc A 132:235-244).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

# Gauss-Legendre nodes of one panel; a panel is at most PANEL standard deviations of the next step wide.
UNIT, WEIGHTS = leggauss(12)
PANEL = 1.5
LEAST_PANELS = 10
# Beyond this many standard deviations the density is zero to double precision.
FAR = 9.0


@dataclass(frozen=True, slots=True)
class Walk:
    """The walk after a look, with the paths that have stopped removed.

    `nodes` are values of S, `mass` is the density at each node times its integration weight. Before the first look the walk
    is at 0 with mass 1.
    """

    information: float
    nodes: Floats
    mass: Floats


START = Walk(0.0, np.zeros(1), np.ones(1))


def exit_probabilities(walk: Walk, information: float, bound: float, drift: float = 0.0) -> tuple[float, float]:
    """Return the probabilities of leaving through the lower and the upper bound at the next look.

    `bound` is on the Z scale, the same in both directions; `drift` is the mean of S per unit of information.
    """
    step = information - walk.information
    centre = walk.nodes + drift * step
    edge = bound * math.sqrt(information)
    scale = math.sqrt(step)
    lower = float(walk.mass @ special.ndtr((-edge - centre) / scale))
    upper = float(walk.mass @ special.ndtr((centre - edge) / scale))
    return lower, upper


def advance(walk: Walk, information: float, bound: float, drift: float = 0.0) -> Walk:
    """Return the walk after a look at `information` at which paths with |Z| >= `bound` stop."""
    step = information - walk.information
    scale, spread = math.sqrt(step), math.sqrt(information)
    # the region is truncated at a density of zero to double precision, so that a bound of 40 costs no more nodes than one of 9
    low = max(-bound * spread, drift * information - FAR * spread)
    high = min(bound * spread, drift * information + FAR * spread)
    if low >= high:
        return Walk(information, np.zeros(1), np.zeros(1))
    panels = max(LEAST_PANELS, math.ceil((high - low) / (PANEL * scale)))
    half = (high - low) / panels / 2
    middles = low + half * (2 * np.arange(panels) + 1)
    nodes = (middles[:, None] + half * UNIT).ravel()
    distance = (nodes[:, None] - (walk.nodes + drift * step)) / scale
    density = np.exp(-0.5 * distance * distance) @ walk.mass / (scale * math.sqrt(2 * math.pi))
    return Walk(information, nodes, density * np.tile(WEIGHTS, panels) * half)


def crossing_probability(information: Sequence[float], bounds: Sequence[float], drift: float = 0.0) -> float:
    """Return the probability that |Z| reaches its bound at any look."""
    walk, total = START, 0.0
    for value, bound in zip(information, bounds, strict=True):
        total += sum(exit_probabilities(walk, value, bound, drift))
        walk = advance(walk, value, bound, drift)
    return total
