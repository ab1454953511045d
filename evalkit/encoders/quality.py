"""Quality nets of pyiqa (PolyForm Noncommercial): built without its downloads, filled from one local file each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from evalkit.encoders.forward import building, fill, read_state
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError, first_line
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe, stamp
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.nn import Module

HUB = "chaofengc/IQA-PyTorch-Weights"
LICENCE = "PolyForm Noncommercial 1.0.0 (pyiqa)"

# These nets keep some hundred bytes per pixel, several GB at this size; they were trained on photos of 512 x 384.
LARGEST = 2**25


class QualityNet:
    """A net that scores a whole image at its own size; its only feature is the score."""

    def __init__(
        self,
        name: str,
        build: Callable[[], "Module"],
        weights: Weights,
        device: str,
        *,
        largest_batch: int,
        smallest_side: int = 32,
        libraries: tuple[str, ...] = (),
        filled: bool = False,
    ) -> None:
        """Keep how the net is built; `filled` means that `build` already loads the weights, or that there are none."""
        self.weights = weights
        self.device = device
        self.largest_batch = largest_batch
        self.smallest_side = smallest_side
        self._build = build
        self._filled = filled
        self.recipe = ModelRecipe(
            model=name,
            sha256=weights.sha256,
            preparation="native-size",
            precision="fp32",
            libraries=(stamp("pyiqa"), *libraries, stamp("torch")),
        )

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image as it is, uint8 3 x H x W; raise a UserError if it has more pixels than memory allows."""
        from torchvision.transforms import functional

        width, height = pixels.image.size
        if width * height > LARGEST:
            raise UserError(
                f"{width} x {height} pixels are too many for {self.recipe.model}, which reads an image at its own size; "
                f"shrink it to at most {LARGEST:,} pixels"
            )
        return cast("Tensor", functional.pil_to_tensor(pixels.image))

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the scores, uint8 n x 3 x H x W to n x 1."""
        with exact():
            scores = self.net(batch.to(self.device).float() / 255)
            return cast("NDArray[np.float32]", scores.reshape(len(batch), 1).float().cpu().numpy())

    @cached_property
    def net(self) -> Any:  # noqa: ANN401 -- pyiqa ships no types
        """Return the net with its weights, in evaluation mode."""
        state = None if self._filled else read_state(self.weights.file)
        with building():
            net = self._build()
        if state is not None:
            fill(net, state, self.weights.file, f"pyiqa's {self.recipe.model}")
        return net.to(self.device).eval().requires_grad_(False)


@contextmanager
def replaced(module: "ModuleType", **names: object) -> Iterator[None]:
    """Give names of one module other values for a while.

    pyiqa's constructors fetch ImageNet backbones that the checkpoint overwrites anyway, and have no switch for it
    (IQA-PyTorch#163); only the name inside pyiqa's own module changes, never the library itself.
    """
    before = {name: getattr(module, name) for name in names}
    try:
        for name, value in names.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def unreadable(weights: Weights, what: str, error: Exception) -> UserError:
    """Return the error for weight files that pyiqa itself refused."""
    places = " and ".join(str(file) for file in weights.files)
    return UserError(f"{places}: are not {what}: {first_line(error)}")
