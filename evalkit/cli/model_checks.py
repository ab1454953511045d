"""Does a model do what its signature says? A picture with a known answer goes in, and is followed up to the net."""

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
# How far apart two ways to the same 8-bit pixels may be: rounding, no more.
ROUNDING = 1
# Black to white spans 1 / deviation in a net's input: 1 without normalisation, about 4 with ImageNet's or CLIP's.
SPAN = (0.5, 20.0)
BRIGHTER = 127
# GELU and QuickGELU at 1 (Hendrycks 2016): Phi(1) and sigmoid(1.702).
GELU_AT_1, QUICK_GELU_AT_1 = 0.8413447, 0.8457958


def faults(model: Model) -> Iterator[str]:
    """Yield in one line each what a model does otherwise than its recipe says.

    Checked are the way from 8-bit RGB to the model's input (is it shrunk as Pillow does, with antialiasing?), the scale in
    which the net gets it (divided by 255 once?), and CLIP's activation (QuickGELU where its weights were trained with it?).
    """
    yield from _input_faults(model)
    if hasattr(model, "features"):
        yield from _scale_faults(cast("Encoder", model))
    if hasattr(model, "texts"):
        yield from _activation_faults(model)


def _probe(side: int = 512) -> Image.Image:
    """Return a square picture of noise: whatever is shrunk without antialiasing shows it."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _input_faults(model: Model) -> Iterator[str]:
    """Compare a model's input with what its recipe says, made here by Pillow alone."""
    stated = model.recipe.preparation
    match = SQUARE.fullmatch(stated)
    if match is None and not NATIVE.fullmatch(stated):
        yield f"its preparation {stated} is none that can be checked here"
        return
    picture = _probe()
    given = model.prepare(Pixels(picture)).cpu().numpy()
    expected = picture
    if match is not None:
        size = int(match["size"])
        expected = _cut(picture.resize((size, size), Image.Resampling.BICUBIC), int(match["crop"] or size))
    if given.dtype != np.uint8:
        yield f"its input is {given.dtype}, not 8 bits a channel"
    elif given.shape != _chw(expected).shape:
        there = f"{given.shape[-1]} x {given.shape[-2]}"
        yield f"its input is {there} pixels, not {expected.width} x {expected.height} as {stated} says"
    elif (off := _levels_apart(given, _chw(expected))) > ROUNDING:
        rough = _levels_apart(given, _without_antialias(picture, match))
        blame = "it is shrunk without antialiasing" if rough < off else "it is made in another way"
        yield f"its input is up to {off} of 255 levels off what {stated} says: {blame}"


def _scale_faults(model: Encoder) -> Iterator[str]:
    """Look at what the net itself is given for a picture, and for the same a good deal brighter."""
    import torch

    net = getattr(model, "net", None)
    if not isinstance(net, torch.nn.Module):
        return
    dark = model.prepare(Pixels(_probe(256))) // 2
    means = []
    for picture in (dark, dark + BRIGHTER):
        with _watched(net) as seen:
            model.features(picture[None])
        means += [float(seen[0].mean())] if seen else []
    if len(means) < 2:
        return
    span = (means[1] - means[0]) * 255 / BRIGHTER
    if span < SPAN[0] / 10:
        yield f"black to white spans {span:.2g} in the net's input: it is divided by 255 twice"
    elif span > SPAN[1]:
        yield f"black to white spans {span:.4g} in the net's input: it is not divided by 255"
    elif span < SPAN[0]:
        yield f"black to white spans {span:.2g} in the net's input, which no usual normalisation gives"


def _activation_faults(model: Model) -> Iterator[str]:
    """Compare the activation of CLIP's blocks with what its description, and who trained its weights, say."""
    import torch

    values = {
        round(float(module(torch.ones(1))), 6)
        for name, module in cast("Any", model).net.named_modules()
        if name.endswith("mlp.gelu")
    }
    told, why = _quick_gelu_expected(cast("Any", model))
    wanted, other = (QUICK_GELU_AT_1, GELU_AT_1) if told else (GELU_AT_1, QUICK_GELU_AT_1)
    if any(abs(value - other) < 1e-4 for value in values):
        names = ("QuickGELU", "GELU") if told else ("GELU", "QuickGELU")
        yield f"its blocks compute {names[1]}, but {why} {names[0]}; the same weights give other features without any error"
    elif any(abs(value - wanted) > 1e-4 for value in values):
        yield "its blocks compute neither GELU nor QuickGELU"


def _quick_gelu_expected(model: Any) -> tuple[bool, str]:  # noqa: ANN401 -- a CLIP encoder, which is heavy to import
    """Return whether CLIP's weights want QuickGELU, and who says so."""
    import open_clip

    # OpenAI's addresses hold the sha256 of the file
    openai = [
        (open_clip.get_pretrained_cfg(name, tag).get("url") or "").split("/")
        for name, tag in open_clip.list_pretrained()
        if tag == "openai"
    ]
    if any(model.weights.sha256 in parts for parts in openai):
        return True, "these are OpenAI's weights, trained with"
    if model.weights.folder is not None:
        config = open_clip.get_model_config(model.architecture)
        return bool(config.get("quick_gelu", False)), f"{model.weights.folder.name}'s description says"
    return model.recipe.model.endswith("quickgelu"), "its signature says"


@contextmanager
def _watched(net: "Module") -> "Iterator[list[Tensor]]":
    """Note every batch of pictures that the net or one of its parts is given, in order."""
    import torch

    seen: list[Tensor] = []

    def note(_: "Module", inputs: tuple[object, ...]) -> None:
        first = inputs[0] if inputs else None
        if isinstance(first, torch.Tensor) and first.ndim == 4 and first.shape[1] == 3 and first.is_floating_point():
            seen.append(first.detach().float().cpu())

    handles = [part.register_forward_pre_hook(note) for part in (net, *net.children())]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _without_antialias(picture: Image.Image, match: re.Match[str] | None) -> "NDArray[np.uint8]":
    """Return the input as it is where every pixel is read from its nearest neighbours alone."""
    from torch.nn.functional import interpolate
    from torchvision.transforms.functional import pil_to_tensor

    if match is None:
        return _chw(picture)
    size = int(match["size"])
    small = interpolate(pil_to_tensor(picture)[None].float(), size=(size, size), mode="bicubic", antialias=False)
    array = small[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return _chw(_cut(Image.fromarray(array), int(match["crop"] or size)))


def _cut(picture: Image.Image, crop: int) -> Image.Image:
    """Return the square at the centre."""
    edge = (picture.width - crop) // 2
    return picture.crop((edge, edge, edge + crop, edge + crop))


def _chw(picture: Image.Image) -> "NDArray[np.uint8]":
    return np.asarray(picture).transpose(2, 0, 1)


def _levels_apart(left: "NDArray[np.uint8]", right: "NDArray[np.uint8]") -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())
