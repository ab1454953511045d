"""Low-rank factors of one layer, and a LoRA as a set of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Factors:
    """Low-rank change of one layer's weight, up @ down.

    `down` is [rank, inputs] or, for a convolution, [rank, inputs, height, width]; `up` is [outputs, rank].
    """

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        """Return the number of rows of `down`."""
        return self.down.shape[0]

    def dense(self) -> Tensor:
        """Return the change of the layer's weight, in that weight's shape."""
        return (self.up @ self.down.flatten(1)).view(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file: raw factors and their scale alpha / rank, by layer ("unet.mid_block...to_q")."""

    path: Path
    sha256: str
    factors: Mapping[str, Factors]
    scales: Mapping[str, float]
    # metadata of the file's header, as text by key
    header: Mapping[str, str] = field(default_factory=dict)

    def part(self, layer: str, weight: float = 1.0) -> Factors:
        """Return the factors of a layer in float32, `weight * alpha / rank` multiplied into `up`."""
        raw = self.factors[layer]
        return Factors(raw.down.float(), raw.up.float() * (weight * self.scales[layer]))
