"""A metric of plain pixels: one function from an array to a number is all it needs."""

import hashlib
import inspect
import marshal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import UserError
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe, stamp

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Measure:
    """Scores an image at its own size by a function of its pixels, uint8 H x W x 3, to one number.

    The function's code is part of the recipe, by the hash of its source file: change it, and scores that were kept count
    no more.
    """

    # one at a time, so that memory holds one large image, not a batch
    largest_batch = 1

    def __init__(
        self,
        name: str,
        function: "Callable[[NDArray[np.uint8]], float]",
        *,
        smallest_side: int = 1,
        libraries: tuple[str, ...] = (),
    ) -> None:
        """Keep the function; `libraries` are packages whose version can change its value."""
        self.name = name
        self.smallest_side = smallest_side
        self.recipe = ModelRecipe(
            name, "", "native-size", "own", (f"code:{_code_hash(function)}", *(stamp(package) for package in libraries))
        )
        self._function = function

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image as it is, uint8 3 x H x W."""
        import torch

        return torch.from_numpy(pixels.array().copy()).permute(2, 0, 1)

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the scores, uint8 n x 3 x H x W to n x 1.

        Raises:
            UserError: the function fails, or returns no number.
        """
        return np.array([[self._value(picture)] for picture in batch.permute(0, 2, 3, 1).numpy()], dtype=np.float32)

    def _value(self, picture: "NDArray[np.uint8]") -> float:
        try:
            return float(self._function(picture))
        except Exception as error:
            raise UserError(
                f"metric {self.name}: its function fails: {type(error).__name__}: {error}; mend the function"
            ) from error


def _code_hash(function: Callable[..., object]) -> str:
    """Return 12 hex digits of a function's source file, or of its code if there is no such file."""
    code = inspect.unwrap(function).__code__
    path = Path(code.co_filename)
    return hashlib.sha256(path.read_bytes() if path.is_file() else marshal.dumps(code)).hexdigest()[:12]
