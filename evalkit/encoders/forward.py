"""Shared parts of encoders: square input, normalisation, net building, weight files read without running their code."""

import logging
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PIL import Image

from evalkit.encoders.torch_state import fixed_state
from evalkit.errors import UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# Pixels an image may have after its shorter side was resized: thin strips would take gigabytes.
LARGEST_RESIZED = 2**25
# Entries in which a weight file may wrap its tensors.
WRAPPERS = ("state_dict", "params")


def centre_square(image: Image.Image, size: int, crop: int) -> "Tensor":
    """Return an RGB image resized by Pillow (bicubic, shorter side to `size`) and cut to crop x crop, uint8 3 x H x W."""
    from torchvision.transforms import functional
    from torchvision.transforms.functional import InterpolationMode

    width, height = image.size
    if size * size * max(width, height) / min(width, height) > LARGEST_RESIZED:
        raise UserError(
            f"{width} x {height} pixels are too narrow a strip: resized to {size} pixels it would fill the memory; crop it"
        )
    small = functional.resize(image, [size], interpolation=InterpolationMode.BICUBIC)
    return cast("Tensor", functional.pil_to_tensor(functional.center_crop(small, [crop, crop])))


def padded_square(image: Image.Image, size: int) -> "Tensor":
    """Return an RGB image with its longer side at `size` (Pillow, bicubic), padded with black, uint8 3 x size x size."""
    from torchvision.transforms import functional

    scale = size / max(image.size)
    small = (
        image if scale == 1 else image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    )
    whole = Image.new("RGB", (size, size))
    whole.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return cast("Tensor", functional.pil_to_tensor(whole))


def normalised(batch: "Tensor", device: str, mean: tuple[float, ...], std: tuple[float, ...]) -> "Tensor":
    """Return uint8 images as float32 on the device, scaled to [0, 1], then shifted and scaled per channel."""
    from torchvision.transforms import functional

    return cast("Tensor", functional.normalize(batch.to(device).float() / 255, list(mean), list(std)))


@contextmanager
def building() -> Iterator[None]:
    """Build a net whose weights are loaded afterwards: its random start leaves the global generator unchanged.

    What libraries write to the root logger meanwhile ("initialized randomly") is dropped.
    """
    import torch

    def drop(_: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    handler = logging.NullHandler()  # without any handler, `logging.warning` would install one for good
    root.addHandler(handler)
    root.addFilter(drop)
    try:
        with fixed_state(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        root.removeFilter(drop)
        root.removeHandler(handler)


def read_state(path: Path) -> "dict[str, Tensor]":
    """Return the tensors of a weight file by name: safetensors, PyTorch (tensors only), or a TorchScript archive.

    Raises:
        UserError: none of these, or cut off.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return cast("dict[str, Tensor]", load_file(path))
        if _is_torchscript(path):
            # OpenAI's own file; its entries without dimensions are settings, but for the temperature
            state = load_torchscript(path).state_dict()
            return {name: value for name, value in state.items() if value.ndim or name == "logit_scale"}
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: can't be read as weights: {first_line(error)}; get the file again") from error
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise UserError(f"{path}: holds no table of tensors; give a state_dict, as safetensors or from torch.save")
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}


def load_torchscript(path: str | Path, map_location: str = "cpu") -> "Module":
    """Return the net in a TorchScript archive, which runs in its own interpreter and not as pickled Python."""
    import torch

    with warnings.catch_warnings():
        # PyTorch advises authors to export otherwise; what was published this way can be read in no other
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", FutureWarning)
        return cast("Module", torch.jit.load(str(path), map_location=map_location))  # type: ignore[no-untyped-call]


def fill(net: "Module", state: "Mapping[str, Tensor]", path: Path, what: str) -> None:
    """Load tensors into a net, all of them and no others.

    Raises:
        UserError: they are of another architecture.
    """
    try:
        net.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        details = " ".join(str(error).split("\n")[1:2]).strip()
        raise UserError(f"{path}: is not {what}: {details[:200]}; get the file again with `evalkit weights fetch`") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
