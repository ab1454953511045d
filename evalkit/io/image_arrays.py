"""Arrays and tensors as images: their range of values is known or stated, never guessed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from evalkit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ValueRange = tuple[float, float]
# of greyscale, RGB and RGBA
CHANNELS = (1, 3, 4)
# kinds of NumPy types: truth values, signed and unsigned integers, floats
NUMBERS = "biuf"


def is_array(picture: object) -> bool:
    """Return whether something is a NumPy array or a PyTorch tensor."""
    return isinstance(picture, np.ndarray) or _is_tensor(picture)


def unbatched(pictures: Any, where: str) -> "Sequence[Any]":  # noqa: ANN401 -- any input of a caller
    """Return images one by one: an array N x H x W x 3 or a tensor N x 3 x H x W is taken apart.

    Raises:
        UserError: it is a single image instead of a list.
    """
    if is_array(pictures):
        if pictures.ndim != 4:
            raise UserError(
                f"{where}: has the shape {_shape(pictures)}; give a list of images, "
                "or an array N x H x W x 3 or tensor N x 3 x H x W"
            )
        return list(pictures)
    if isinstance(pictures, (str, bytes, Image.Image)) or hasattr(pictures, "__fspath__"):
        raise UserError(f"{where}: is a single image; give a list, [image]")
    if isinstance(pictures, Mapping) or not isinstance(pictures, Iterable):
        raise UserError(f"{where}: is of type {type(pictures).__name__}; give a list of images")
    return pictures if isinstance(pictures, Sequence) else list(pictures)


def to_image(picture: Any, where: str, value_range: ValueRange | None) -> Image.Image:  # noqa: ANN401 -- array or tensor
    """Return a uint8 array H x W x 3 or tensor 3 x H x W as an image; other numbers are scaled from `value_range`.

    A scaled value is rounded to the nearest of 0 to 255, as diffusers does when it saves an image.

    Raises:
        UserError: another shape, numbers other than uint8 without a stated range, or numbers outside it.
    """
    tensor = _is_tensor(picture)
    channel, layout = (0, "3 x H x W") if tensor else (-1, "H x W x 3")
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[channel] in CHANNELS)) or not all(picture.shape):
        what = "a tensor" if tensor else "an array"
        raise UserError(f"{where}: has the shape {_shape(picture)}; {what} has to be {layout} in RGB, RGBA or greyscale")
    array = _as_numpy(picture)
    if array.dtype.kind not in NUMBERS:
        raise UserError(f"{where}: holds {array.dtype} values, which are not levels of brightness; give uint8 or float")
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if value_range is None:
        raise UserError(
            f"{where}: holds {array.dtype} numbers, whose range is ambiguous; "
            "state it with value_range=(0, 1), (-1, 1) or (0, 255), or give uint8"
        )
    return Image.fromarray(_scaled(array, where, value_range))


def check_range(value_range: ValueRange | None) -> None:
    """Raise a UserError if a given range is invalid."""
    if value_range is not None:
        try:
            low, high = (float(bound) for bound in value_range)
        except (TypeError, ValueError):
            raise UserError(f"value_range: is {value_range!r}; give two numbers, (lowest, highest), such as (0, 1)") from None
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise UserError(f"value_range: {low:g} to {high:g} is not a range; give (lowest, highest), such as (0, 1)")


def _scaled(array: "NDArray[Any]", where: str, value_range: ValueRange) -> "NDArray[np.uint8]":
    """Return numbers as 0 to 255, rounded; up to half a level outside the range counts as rounding.

    Raises:
        UserError: values outside the range, or fractions of a single level only, such as values from 0 to 1 stated as 0 to 255.
    """
    low, high = value_range
    values = array.astype(np.float64)
    least, most = values.min(), values.max()
    level = (high - low) / 255
    # a NaN fails the comparison as well
    if not (low - level / 2 <= least and most <= high + level / 2):
        raise UserError(
            f"{where}: holds values from {least:.9g} to {most:.9g}, outside the stated range {low:g} to {high:g}"
            "; clip it, or state its range"
        )
    if level >= 1 and most <= low + level and (values != np.rint(values)).any():
        raise UserError(
            f"{where}: holds values from {least:.9g} to {most:.9g}, almost black in the stated range {low:g} to {high:g}; "
            "check value_range, such as (0, 1)"
        )
    return np.rint((values.clip(low, high) - low) / (high - low) * 255).astype(np.uint8)


def _is_tensor(picture: object) -> bool:
    """Return whether something is a PyTorch tensor, without importing PyTorch."""
    return type(picture).__module__.partition(".")[0] == "torch" and hasattr(picture, "detach")


def _as_numpy(picture: Any) -> "NDArray[Any]":  # noqa: ANN401 -- array or tensor
    """Return an array H x W x 3 of an array or tensor."""
    if not _is_tensor(picture):
        return picture  # type: ignore[no-any-return]
    import torch

    tensor = picture.detach().cpu()
    # NumPy has no bfloat16
    tensor = tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
    return (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()  # type: ignore[no-any-return]


def _shape(picture: Any) -> str:  # noqa: ANN401 -- array or tensor
    return " x ".join(map(str, picture.shape)) or "of a single number"
