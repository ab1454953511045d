"""Bootstraps by weights: clusters drawn with replacement, and products of weights where concepts and people cross.

Rows are never resampled: sums over clusters are formed once, and every draw weighs them. For crossed data no exact bootstrap
exists; weights that multiply are mildly too cautious (Owen 2007; Owen and Eckles 2012, arXiv 1106.2125).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analysis.contrast import ALPHA
from analysis.inference.concept_sets import Codes, ConceptSets, Floats
from analysis.inference.finite_values import check_finite, check_rows
from evalkit.errors import UserError

# Draws whose counts fit into a processor's cache.
CELLS = 1 << 19


def cluster_counts(clusters: int, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield, block by block, how often each cluster is drawn: of shape (draws of the block, clusters), each row with that sum.

    Counting random places takes a tenth of the time of numpy's multinomial, which draws a binomial number per cluster.
    """
    if clusters < 1 or draws < 1:
        raise UserError(f"bootstrap: {draws} draws of {clusters} clusters; at least one of each is needed")
    block = max(1, CELLS // clusters)
    kind = np.uint16 if clusters <= 1 << 16 else np.uint32
    for start in range(0, draws, block):
        size = min(block, draws - start)
        places = rng.integers(0, clusters, (size, clusters), dtype=kind).astype(np.int64)
        places += clusters * np.arange(size)[:, None]
        yield np.bincount(places.ravel(), minlength=size * clusters).reshape(size, clusters)


def cluster_bootstrap(values: Floats, cluster: Codes, draws: int, rng: np.random.Generator) -> Floats:
    """Return the mean of `values` in every draw of whole clusters with replacement; clusters are taken for independent."""
    check_finite("bootstrap", values)
    check_rows("bootstrap", len(values), cluster=cluster)
    codes = np.unique(cluster, return_inverse=True)[1]
    sums = np.column_stack([np.bincount(codes, values), np.bincount(codes).astype(np.float64)])
    totals = np.concatenate([counts @ sums for counts in cluster_counts(len(sums), draws, rng)])
    return np.asarray(totals[:, 0] / totals[:, 1], np.float64)


def crossed_weights(
    sets: ConceptSets, draws: int, rng: np.random.Generator, participant: Codes | None = None, concepts: bool | None = None
) -> Iterator[Floats]:
    """Yield one weight per row for every draw: the product of exponential weights of its concepts and its participant.

    Without participants each row has its own weight instead: the seeds within a case. `concepts` False weighs whole
    concept sets; by default concepts are weighed if they can represent others.
    """
    by_concept = sets.generalises if concepts is None else concepts
    names = {name: index for index, name in enumerate(dict.fromkeys(name for held in sets.ordered_members for name in held))}
    width = max(len(held) for held in sets.members)
    # the last column, whose weight is one, represents concepts that a set does not have
    table = np.full((len(sets.members), max(width, 1)), len(names))
    for row, held in enumerate(sets.ordered_members):
        table[row, : len(held)] = [names[name] for name in held]
    people = None if participant is None else np.unique(participant, return_inverse=True)[1]
    for _ in range(draws):
        if by_concept:
            of_set = np.append(rng.exponential(size=len(names)), 1.0)[table].prod(axis=1)
        else:
            of_set = rng.exponential(size=len(sets.members))
        of_row = of_set[sets.codes]
        if people is None:
            yield of_row * rng.exponential(size=len(of_row))
        else:
            yield of_row * rng.exponential(size=int(people.max()) + 1)[people]


def percentile_interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of some draws; with 399 of them its ends are draws."""
    ordered = np.sort(values)
    rank = max(1, int((len(values) + 1) * ALPHA / 2))
    return float(ordered[rank - 1]), float(ordered[-rank])
