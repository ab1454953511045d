"""DINO and DINOv2: vision transformers trained without labels, through timm (Caron 2021, arXiv 2104.14294; Oquab 2024)."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from evalkit.encoders.forward import building, centre_square, fill, normalised, read_state
from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.signature import ModelRecipe, stamp
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# The tags bring ImageNet's mean and deviation, which these nets were trained with; timm's default for the first has others.
ARCHITECTURE = "vit_small_patch16_224.dino"
V2_ARCHITECTURE = "vit_small_patch14_dinov2.lvd142m"
S8_ARCHITECTURE = "vit_small_patch8_224.dino"
# Side of the images that DINOv2 is given, as its own evaluation and transformers' processor do; timm's default is 518.
V2_SIDE = 224
CONFIG = "config.json"
DINO = Source(
    name="dino",
    hub="timm/vit_small_patch16_224.dino",
    files=("model.safetensors",),
    licence="Apache-2.0 (facebookresearch/dino)",
    config=CONFIG,
)


DINO_S8 = Source(
    name="dino_s8",
    hub="timm/vit_small_patch8_224.dino",
    files=("model.safetensors",),
    licence="Apache-2.0 (facebookresearch/dino)",
    config=CONFIG,
)
DINOV2 = Source(
    name="dinov2",
    hub="timm/vit_small_patch14_dinov2.lvd142m",
    files=("model.safetensors",),
    licence="Apache-2.0 (facebookresearch/dinov2)",
    config=CONFIG,
)


def load_dino(weights: Weights, device: str) -> "DinoEncoder":
    """Return DINO with these weights: ViT-S/16, or what the weights' folder describes in timm's config.json."""
    return DinoEncoder(weights, device)


def load_dino_s8(weights: Weights, device: str) -> "DinoEncoder":
    """Return DINO with these weights: ViT-S/8, or what the weights' folder describes in timm's config.json."""
    return DinoEncoder(weights, device, S8_ARCHITECTURE)


def load_dinov2(weights: Weights, device: str) -> "DinoEncoder":
    """Return DINOv2 with these weights: ViT-S/14 for 224 pixels, or what the weights' folder describes."""
    return DinoEncoder(weights, device, V2_ARCHITECTURE, V2_SIDE)


class DinoEncoder:
    """A net's class token in float32; weights are loaded when something is first encoded."""

    largest_batch = 256
    smallest_side = 1

    def __init__(self, weights: Weights, device: str, architecture: str = ARCHITECTURE, side: int | None = None) -> None:
        """Read the net's settings; raise a UserError if a folder describes none that timm can build.

        `side` is that of the images it is given, where that differs from the net's own.
        """
        import timm
        import torch

        self.weights = weights
        self.device = device
        folder = weights.folder
        self._name = architecture if folder is None else f"local-dir:{folder}"
        self._resized = {"img_size": side} if folder is None and side else {}
        try:
            if folder is None:
                data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(architecture).to_dict())
            else:
                # shapes without numbers: where all features are in the cache, no net is ever filled
                with torch.device("meta"):
                    data = timm.data.resolve_model_data_config(self._built())
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise UserError(f"{folder}: timm can't build what its {CONFIG} describes: {error}; get the folder again") from error
        _, height, width = data["input_size"]
        if height != width:
            raise UserError(f"{folder}: {CONFIG} describes {height} x {width} images; only square ones are supported")
        self.crop = self._resized.get("img_size", int(height))
        # 256 for 224, as the official evaluation does (facebookresearch/dino, eval_knn.py); timm's own setting is 248
        self.size = round(self.crop * 256 / 224)
        self.mean, self.std = tuple(data["mean"]), tuple(data["std"])
        self.recipe = ModelRecipe(
            model=architecture.partition(".")[0] if folder is None else f"timm-dir:{sha256_file(folder / CONFIG)[:8]}",
            sha256=weights.sha256,
            preparation=f"pil-bicubic-{self.size}-center-{self.crop}",
            precision="fp32",
            libraries=(stamp("timm"), stamp("torch")),
        )

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image resized (Pillow, bicubic, shorter side) and cut to a square at the centre."""
        return centre_square(pixels.image, self.size, self.crop)

    def features(self, batch: "Tensor") -> "NDArray[np.float32]":
        """Return the features, uint8 n x 3 x H x W to n x d, not normalised."""
        with exact():
            return cast(
                "NDArray[np.float32]", self.net(normalised(batch, self.device, self.mean, self.std)).float().cpu().numpy()
            )

    @cached_property
    def net(self) -> Any:  # noqa: ANN401 -- timm ships no types
        """Return the net with its weights, in evaluation mode."""
        path = self.weights.file
        # the file may contain a classifier; features end before it
        state = {name: value for name, value in read_state(path).items() if not name.startswith("head.")}
        net = self._built()
        if self._resized and "pos_embed" in state:
            state["pos_embed"] = _resampled(state["pos_embed"], net.patch_embed.grid_size)
        fill(net, state, path, f"timm's {self.recipe.model}")
        return net.to(self.device).eval().requires_grad_(False)

    def _built(self) -> Any:  # noqa: ANN401 -- timm ships no types
        """Return the net with random weights."""
        import timm

        with building():
            return timm.create_model(self._name, pretrained=False, num_classes=0, **self._resized)


def _resampled(positions: "Tensor", grid: tuple[int, int]) -> "Tensor":
    """Return position embeddings 1 x (1 + n * n) x d for another grid, as transformers does; timm's own way smooths them."""
    import torch
    from torch.nn import functional

    first, rest = positions[:, :1], positions[:, 1:]
    side = round(rest.shape[1] ** 0.5)
    if side * side != rest.shape[1]:
        return positions
    square = rest.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    fitted = functional.interpolate(square.float(), size=grid, mode="bicubic", align_corners=False)
    return torch.cat((first, fitted.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1)), dim=1)
