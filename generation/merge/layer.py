"""What a method on weights is told of the layer it merges, beside the LoRAs' factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Generator

from evalkit.errors import UserError
from generation.lora_file import Lora
from generation.seeds import derived


@dataclass(frozen=True)
class Layer:
    """One layer of one merge: its name, the LoRAs at work, and the seed all its chance comes from.

    A LoRA of weight zero is not at work: it is left out before any method sees it. `weights` are those of all LoRAs at work,
    whether they adapt this layer or not; `places` say where in the case's list each part of this layer stands, counted from 0;
    `loras` are all LoRAs at work by their place, for what their files say.
    """

    name: str
    seed: int
    weights: Sequence[float]
    places: Sequence[int]
    loras: Mapping[int, Lora] = field(default_factory=dict)
    # by layer: squared Frobenius norm that a compressed merge kept, and that of the exact sum
    energies: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return how many LoRAs the case merges."""
        return len(self.weights)

    def generator(self) -> Generator:
        """Return a new generator that depends on the arm's seed and the layer's name alone."""
        return Generator("cpu").manual_seed(derived("merge", self.seed, self.name))

    def affine(self) -> float:
        """Return 1 / sum_j w_j, which turns weights into shares of one.

        Raises:
            UserError: a weight is negative, so that they are no shares.
        """
        if min(self.weights) < 0:
            raise UserError(f"weights {list(self.weights)} are no shares of one; give weights above 0, or merge by plain sum")
        return 1 / sum(self.weights)

    def report(self, kept: float, total: float) -> None:
        """Note how much of the sum's squared Frobenius norm the merge of this layer keeps."""
        self.energies[self.name] = (kept, total)
