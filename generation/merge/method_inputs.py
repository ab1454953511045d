"""Arguments of merge methods besides LoRA factors: the layer, the plan of a sampling run, the objective of a search."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Generator, Tensor

from evalkit.errors import UserError
from generation.lora.factors import Factors, Lora
from generation.seeds import derived


@dataclass(frozen=True)
class Layer:
    """One layer of one merge: its name, the active LoRAs, and the seed of all its randomness.

    A LoRA of weight 0 is inactive: it is removed before a method runs.
    """

    name: str
    seed: int
    # of all active LoRAs, including those that do not adapt this layer
    weights: Sequence[float]
    # position in the case's list of concepts of each of this layer's factors, from 0
    places: Sequence[int]
    # all active LoRAs by position, for methods that read their headers
    loras: Mapping[int, Lora] = field(default_factory=dict)
    # by layer: squared Frobenius norm of a compressed merge, and of the exact sum
    energies: dict[str, tuple[float, float]] = field(default_factory=dict)
    # values that all layers of a merge share, by what they are
    shared: dict[tuple[str, ...], float] = field(default_factory=dict)

    @property
    def part_weights(self) -> list[float]:
        """Return the weights of the LoRAs that adapt this layer, in the order of its factors."""
        by_position = dict(zip(self.loras, self.weights, strict=True)) if self.loras else dict(enumerate(self.weights))
        return [by_position[position] for position in self.places]

    @property
    def count(self) -> int:
        """Return the number of active LoRAs of the case."""
        return len(self.weights)

    def generator(self) -> Generator:
        """Return a new generator that depends only on the arm's seed and the layer's name."""
        return Generator("cpu").manual_seed(derived("merge", self.seed, self.name))

    def affine(self) -> float:
        """Return 1 / sum_j w_j, the factor that turns weights into shares of one.

        Raises:
            UserError: a weight is negative.
        """
        if min(self.weights) < 0:
            raise UserError(
                f"weights {list(self.weights)} contain a negative number, which has no share of one; give weights above 0, or "
                "merge with a method that sums"
            )
        return 1 / sum(self.weights)

    def report(self, retained: float, total: float) -> None:
        """Record the squared Frobenius norm of this layer's merge and of the exact sum."""
        self.energies[self.name] = (retained, total)


@dataclass(frozen=True)
class StepPlan:
    """Sampling run as a method on steps sees it: number of steps, active LoRAs, and their factors.

    LoRAs are identified by their position in the case's list of concepts, from 0. `order` lists the active ones; `layers`
    lists, per layer, those that adapt it. `part(layer, position)` returns factors scaled by weight * alpha / rank.
    """

    steps: int
    order: Sequence[int]
    layers: Mapping[str, Sequence[int]]
    part: Callable[[str, int], Factors]


@dataclass(frozen=True)
class ColumnObjective:
    """Objective of a method that searches for one multiplier per input of every layer.

    `columns` contains the multipliers of each layer that several LoRAs adapt, [LoRAs, inputs(, height, width)], initially 1 and
    changed in place. `errors(update)` yields, LoRA by LoRA, the norm of the difference between the merge's noise prediction and
    that of the LoRA alone, on images that the LoRA alone generated; `update` determines noise level and noise.
    """

    columns: Mapping[str, Tensor]
    errors: Callable[[int], Iterator[Tensor]]
