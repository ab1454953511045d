"""Checks that a loaded model matches its signature: preprocessing, input scale and activation, on a known image."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.metric_card import Encoder, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.nn import Module

SQUARE = re.compile(r"pil-bicubic-(?P<size>\d+)-(pad|center(-(?P<crop>\d+))?)")
NATIVE = re.compile(r"native-size(-cut\d+)?")
# Two ways to compute the same 8-bit pixels may differ by rounding alone.
ROUNDING = 1
# Black to white spans 1 / deviation in a network's input: 1 without normalisation, about 4 with ImageNet's or CLIP's.
SPAN = (0.5, 20.0)
BRIGHTER = 127
# GELU and QuickGELU at 1 (Hendrycks 2016): Phi(1) and sigmoid(1.702).
GELU_AT_1, QUICK_GELU_AT_1 = 0.8413447, 0.8457958


def faults(model: Model) -> Iterator[str]:
    """Yield one line for each deviation of a model from its recipe.

    Three things are checked: the preprocessing of 8-bit RGB (resized as Pillow does, with antialiasing), the scale of the
    network's input (divided by 255 once), and CLIP's activation (QuickGELU if its weights were trained with it).
    """
    yield from _input_faults(model)
    if hasattr(model, "features"):
        yield from _scale_faults(cast("Encoder", model))
    if hasattr(model, "texts"):
        yield from _activation_faults(model)


def _probe(side: int = 512) -> Image.Image:
    """Return a square image of noise, which shows missing antialiasing."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _input_faults(model: Model) -> Iterator[str]:
    """Compare a model's input with that of its recipe, computed here by Pillow alone."""
    stated = model.recipe.preparation
    match = SQUARE.fullmatch(stated)
    if match is None and not NATIVE.fullmatch(stated):
        yield f"its preprocessing {stated} cannot be checked here"
        return
    image = _probe()
    given = model.prepare(Pixels(image)).cpu().numpy()
    expected = image
    if match is not None:
        size = int(match["size"])
        expected = _cut(image.resize((size, size), Image.Resampling.BICUBIC), int(match["crop"] or size))
    if given.dtype != np.uint8:
        yield f"its input is {given.dtype}, not 8 bits per channel"
    elif given.shape != _chw(expected).shape:
        size_given = f"{given.shape[-1]} x {given.shape[-2]}"
        yield f"its input is {size_given} pixels; {stated} gives {expected.width} x {expected.height}"
    elif (off := _levels_apart(given, _chw(expected))) > ROUNDING:
        rough = _levels_apart(given, _without_antialias(image, match))
        cause = "it is resized without antialiasing" if rough < off else "its preprocessing differs"
        yield f"its input differs from that of {stated} by up to {off} of 255 levels: {cause}"


def _scale_faults(model: Encoder) -> Iterator[str]:
    """Compare the network's own input for an image and for a brighter copy of it."""
    import torch

    network = getattr(model, "net", None)
    if not isinstance(network, torch.nn.Module):
        return
    dark = model.prepare(Pixels(_probe(256))) // 2
    means = []
    for image in (dark, dark + BRIGHTER):
        with _watched(network) as seen:
            model.features(image[None])
        means += [float(seen[0].mean())] if seen else []
    if len(means) < 2:
        return
    span = (means[1] - means[0]) * 255 / BRIGHTER
    if span < SPAN[0] / 10:
        yield f"black to white spans {span:.2g} in the network's input: it is divided by 255 twice"
    elif span > SPAN[1]:
        yield f"black to white spans {span:.4g} in the network's input: it is not divided by 255"
    elif span < SPAN[0]:
        yield f"black to white spans {span:.2g} in the network's input, which no usual normalisation gives"


def _activation_faults(model: Model) -> Iterator[str]:
    """Compare the activation of CLIP's blocks with the one its weights were trained with."""
    import torch

    values = {
        round(float(module(torch.ones(1))), 6)
        for name, module in cast("Any", model).net.named_modules()
        if name.endswith("mlp.gelu")
    }
    quick, why = _quick_gelu_expected(cast("Any", model))
    wanted, other = (QUICK_GELU_AT_1, GELU_AT_1) if quick else (GELU_AT_1, QUICK_GELU_AT_1)
    if any(abs(value - other) < 1e-4 for value in values):
        names = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
        yield f"its blocks compute {names[1]}, but {why} {names[0]}; so the same weights give other features, without an error"
    elif any(abs(value - wanted) > 1e-4 for value in values):
        yield "its blocks compute neither GELU nor QuickGELU"


def _quick_gelu_expected(model: Any) -> tuple[bool, str]:  # noqa: ANN401 -- a CLIP encoder, which is heavy to import
    """Return whether CLIP's weights need QuickGELU, and the source of that fact."""
    import open_clip

    # OpenAI's addresses hold the sha256 of the file
    openai = [
        (open_clip.get_pretrained_cfg(name, tag).get("url") or "").split("/")
        for name, tag in open_clip.list_pretrained()
        if tag == "openai"
    ]
    if any(model.weights.sha256 in parts for parts in openai):
        return True, "these are OpenAI's weights, which were trained with"
    if model.weights.folder is not None:
        config = open_clip.get_model_config(model.architecture)
        return bool(config.get("quick_gelu", False)), f"the configuration of {model.weights.folder.name} states"
    return model.recipe.model.endswith("quickgelu"), "its signature states"


@contextmanager
def _watched(network: "Module") -> "Iterator[list[Tensor]]":
    """Record every batch of images passed to the network or to one of its children, in order."""
    import torch

    seen: list[Tensor] = []

    def note(_: "Module", inputs: tuple[object, ...]) -> None:
        first = inputs[0] if inputs else None
        if isinstance(first, torch.Tensor) and first.ndim == 4 and first.shape[1] == 3 and first.is_floating_point():
            seen.append(first.detach().float().cpu())

    handles = [part.register_forward_pre_hook(note) for part in (network, *network.children())]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _without_antialias(image: Image.Image, match: re.Match[str] | None) -> "NDArray[np.uint8]":
    """Return the input as resizing without antialiasing gives it."""
    from torch.nn.functional import interpolate
    from torchvision.transforms.functional import pil_to_tensor

    if match is None:
        return _chw(image)
    size = int(match["size"])
    small = interpolate(pil_to_tensor(image)[None].float(), size=(size, size), mode="bicubic", antialias=False)
    array = small[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return _chw(_cut(Image.fromarray(array), int(match["crop"] or size)))


def _cut(image: Image.Image, crop: int) -> Image.Image:
    """Return the square at the centre."""
    edge = (image.width - crop) // 2
    return image.crop((edge, edge, edge + crop, edge + crop))


def _chw(image: Image.Image) -> "NDArray[np.uint8]":
    return np.asarray(image).transpose(2, 0, 1)


def _levels_apart(left: "NDArray[np.uint8]", right: "NDArray[np.uint8]") -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())
