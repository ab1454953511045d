"""Two images side by side: measures that see both at once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe

if TYPE_CHECKING:
    from torch import Tensor


class PixelPairs:
    """A symmetric measure of two images at their own size."""

    largest_batch = 1

    def __init__(
        self,
        name: str,
        compare: Callable[["Tensor", "Tensor"], float],
        *,
        precision: str,
        sha256: str = "",
        smallest_side: int = 1,
        libraries: tuple[str, ...] = (),
        build: Callable[[], object] | None = None,
    ) -> None:
        """Keep the measure: uint8 3 x H x W twice to a number, infinity if it has no bound and they are equal.

        `sha256` is that of its weights; empty if it has none.
        """
        self.smallest_side = smallest_side
        self.recipe = ModelRecipe(name, sha256, "native-size", precision, libraries)
        self._compare = compare
        self._build = build

    @property
    def net(self) -> object:
        """Return the measure's net with its weights, or None for a measure without one."""
        return self._build() if self._build is not None else None

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image as it is, uint8 3 x H x W."""
        from torchvision.transforms import functional

        return cast("Tensor", functional.pil_to_tensor(pixels.image))

    def compare(self, left: "Tensor", right: "Tensor") -> float:
        """Return the measure of two images of one size."""
        return self._compare(left, right)
