"""The variance between participants, estimated from products of one participant's votes, for any distribution of votes.

One person may give half of all votes. The usual clustered variance then rests on one cluster: it is too small by a factor of
three, with 1.4 degrees of freedom. The spread of participants is therefore estimated from all of them, as in a random-effects
meta-analysis (the general method of moments of DerSimonian and Kacker 2007, doi 10.1016/j.cct.2006.04.004), and enters the
variance of the mean with the weights that the participants have.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from analysis.inference.concept_sets import Codes, Floats

# Weight of a participant with n votes: n / (1 + n / SATURATION). With the usual spread of tastes (.5 logit) twenty votes halve
# the gain of a further one; the estimate is unbiased for any value.
SATURATION = 20.0


def indicator(codes: Codes, levels: int | None = None) -> sparse.csr_array:
    """Return the 0/1 matrix of shape (levels, rows) whose product with values gives their sum at each level."""
    size = int(codes.max(initial=-1)) + 1 if levels is None else levels
    return sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(size, len(codes)))


@dataclass(frozen=True)
class ParticipantMoments:
    """Sums over participants and over their cells: a cell is one participant in one item (set of concepts, or comparison).

    Two votes of one participant in different items share nothing but the participant, so the products of their residuals
    estimate the variance between participants. `strata` None centres the votes at a weighted mean of the participants' means;
    else at the mean of each stratum, which removes effects of cases that are fixed.
    """

    participant: Codes
    item: Codes
    strata: Codes | None = None

    @cached_property
    def votes(self) -> Floats:
        """Return the number of votes of each participant."""
        return np.bincount(self.participant).astype(np.float64)

    @cached_property
    def _cells(self) -> tuple[Codes, Codes, Codes, Floats]:
        """Return each row's cell, and each cell's participant, item and number of rows."""
        width = int(self.item.max(initial=0)) + 1
        keys, cell, count = np.unique(self.participant * width + self.item, return_inverse=True, return_counts=True)
        return cell.astype(np.int64), keys // width, keys % width, count.astype(np.float64)

    @cached_property
    def _worth(self) -> Floats:
        """Return how many cells with one vote each a participant's votes are worth: a vote given twice counts once."""
        _, person, _, count = self._cells
        return np.asarray(self.votes**2 / np.bincount(person, count**2, len(self.votes)), np.float64)

    @cached_property
    def _sums(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        return indicator(self.participant), indicator(self._cells[0])

    @cached_property
    def products(self) -> Floats:
        """Return how many ordered pairs of votes in different items each participant has."""
        _, person, _, count = self._cells
        return np.asarray(self.votes**2 - np.bincount(person, count**2, len(self.votes)), np.float64)

    @cached_property
    def weights(self) -> Floats:
        """Return the weight of each participant's mean product, 0 for those who voted on one item only; the sum is one."""
        weight = np.where(self.products > 0, self._worth / (1.0 + self._worth / SATURATION), 0.0)
        return np.asarray(weight / weight.sum() if weight.any() else weight, np.float64)

    @cached_property
    def _per_product(self) -> Floats:
        return np.asarray(self.weights / np.maximum(self.products, 1.0), np.float64)

    @property
    def estimable(self) -> bool:
        """Return whether at least two participants voted on several items each."""
        return int(np.count_nonzero(self.weights)) > 1 and self._expected[0] > 1e-9

    @cached_property
    def _centre(self) -> Floats:
        weight = self._worth / (1.0 + self._worth / SATURATION)
        return np.asarray(weight / weight.sum(), np.float64)

    @cached_property
    def _expected(self) -> tuple[float, float]:
        """Return what the weighted products are expected to be, per unit of variance of participants and of cells."""
        if self.strata is None:
            centre = self._centre
            between = 1.0 - 2.0 * centre + float(centre @ centre)
            _, person, _, count = self._cells
            squares, cubes = (np.bincount(person, count**power, len(self.votes)) for power in (2, 3))
            within = self.products * float(centre**2 @ (1.0 / self._worth)) - 2.0 * centre * (squares - cubes / self.votes)
            return float(self.weights @ between), float(self._per_product @ within)
        _, person, item, count = self._cells
        stratum_of_item = np.zeros(int(self.item.max()) + 1, np.int64)
        stratum_of_item[self.item] = self.strata
        stratum = stratum_of_item[item]
        cells = sparse.csr_array((count, (person, stratum)), shape=(len(self.votes), int(self.strata.max()) + 1))
        size = np.bincount(self.strata).astype(np.float64)
        shared = (cells @ sparse.diags_array(1.0 / np.maximum(size, 1.0)) @ cells.T).tocsr()
        same = shared.diagonal()
        of_person = self.votes**2 - 2.0 * self.votes * same + np.asarray(shared.power(2).sum(axis=1)).ravel()
        own = np.asarray(cells[person, stratum]).ravel() / size[stratum]
        squares = np.asarray(cells.power(2).sum(axis=0)).ravel() / np.maximum(size, 1.0) ** 2
        of_cell = np.bincount(person, count**2 * (1.0 - 2.0 * own + squares[stratum]), len(self.votes))
        square = np.bincount(stratum, count**2, len(size)) / np.maximum(size, 1.0) ** 2
        theirs = np.asarray(cells[person, stratum]).ravel()
        noise = (
            np.bincount(person, 2.0 * count**2 * (count - theirs) / size[stratum] - count**2 * square[stratum], len(self.votes))
            + np.asarray(cells.power(2) @ square).ravel()
        )
        return float(self._per_product @ (of_person - of_cell)), float(self._per_product @ noise)

    def variance(self, values: Floats) -> Floats:
        """Return the variance between participants of each column of `values` (rows, columns); negative ones are zero."""
        people, cells = self._sums
        if self.strata is None:
            centre = self._centre @ ((people @ values) / self.votes[:, None])
            residuals = values - centre
        else:
            size = np.bincount(self.strata)
            residuals = values - ((indicator(self.strata) @ values) / np.maximum(size, 1)[:, None])[self.strata]
        of_person, of_cell = (people @ residuals) ** 2, (cells @ residuals) ** 2
        products = self._per_product @ of_person - self._per_product[self._cells[1]] @ of_cell
        between, within = self._expected
        noise = (1.0 / self._cells[3]) @ of_cell / len(values)
        return np.asarray(np.maximum(products - within * noise, 0.0) / between, np.float64)

    def noise(self, values: Floats) -> Floats:
        """Return the variance of one cell's mean around the mean of each column, cells weighted by their rows."""
        means = self._sums[1] @ (values - values.mean(axis=0))
        return np.asarray((1.0 / self._cells[3]) @ means**2 / len(values), np.float64)

    @cached_property
    def df(self) -> float:
        """Return the degrees of freedom of the estimated variance if votes had no error."""
        people = int(np.count_nonzero(self.weights))
        return (people - 1) / people / float(self.weights @ self.weights)

    def uncertainty(self, variance: Floats, noise: Floats) -> Floats:
        """Return the variance of the estimated variance over two, as far as it grows with the variance between participants.

        What single cells (of variance `noise`) add if participants do not differ is left out: there the estimate is cut at
        zero, and the rest of the variance of the mean holds it.
        """
        squares = self.weights**2
        rows = float(np.sum(squares)), float(np.sum(squares / self._worth))
        people = int(np.count_nonzero(self.weights))
        return np.asarray(people / (people - 1) * (variance**2 * rows[0] + 2.0 * variance * noise * rows[1]), np.float64)

    def least(self, noise: Floats) -> Floats:
        """Return the standard error that the estimated variance has if participants do not differ.

        With one participant who gives half of the votes it is larger than what it should tell apart, so an estimate of zero
        is uninformative: the variance of the mean is then no smaller than this times the weight of the participants.
        """
        people = int(np.count_nonzero(self.weights))
        squares = float(np.sum((self.weights / self._worth) ** 2))
        return np.asarray(noise * np.sqrt(2.0 * people / (people - 1) * squares), np.float64)

    @property
    def effective(self) -> float:
        """Return how many participants with equally many votes are worth as much: 1 / sum of squared shares of the votes."""
        share = self.votes / self.votes.sum()
        return 1.0 / float(share @ share)
