"""DINO: a vision transformer trained without labels, through timm (Caron 2021, arXiv 2104.14294)."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from evalkit.encoders.forward import building, centre_square, exact, fill, normalised, read_state
from evalkit.errors import UserError
from evalkit.files import sha256_file
from evalkit.pixels import Pixels
from evalkit.signature import Recipe, stamp
from evalkit.weights import Source, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# The tag brings ImageNet's mean and deviation, which DINO was trained with; timm's default for this net has others.
ARCHITECTURE = "vit_small_patch16_224.dino"
CONFIG = "config.json"
DINO = Source(
    name="dino",
    hub="timm/vit_small_patch16_224.dino",
    files=("model.safetensors",),
    licence="Apache-2.0 (facebookresearch/dino)",
    config=CONFIG,
)


def load_dino(weights: Weights, device: str) -> "DinoEncoder":
    """Return DINO with these weights: ViT-S/16, or what the weights' folder describes in timm's config.json."""
    return DinoEncoder(weights, device)


class DinoEncoder:
    """DINO's class token in float32; weights are loaded when something is first encoded."""

    largest_batch = 256
    smallest_side = 1

    def __init__(self, weights: Weights, device: str) -> None:
        """Build the net without weights; raise a UserError where a folder describes none that timm can build."""
        import timm

        self.weights = weights
        self.device = device
        folder = weights.folder
        try:
            with building():
                name = ARCHITECTURE if folder is None else f"local-dir:{folder}"
                self._bare = timm.create_model(name, pretrained=False, num_classes=0)
            data = timm.data.resolve_model_data_config(self._bare)
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise UserError(f"{folder}: timm can't build what its {CONFIG} describes: {error}") from error
        _, height, width = data["input_size"]
        if height != width:
            raise UserError(f"{folder}: {CONFIG} describes {height} x {width} pictures; only square ones are used")
        self.crop = int(height)
        # 256 for 224, as the official evaluation does (facebookresearch/dino, eval_knn.py); timm's own setting is 248
        self.size = round(self.crop * 256 / 224)
        self.mean, self.std = tuple(data["mean"]), tuple(data["std"])
        self.recipe = Recipe(
            model="vit_small_patch16_224" if folder is None else f"timm-dir:{sha256_file(folder / CONFIG)[:8]}",
            sha256=weights.sha256,
            preparation=f"pil-bicubic-{self.size}-center-{self.crop}",
            precision="fp32",
            libraries=(stamp("timm"), stamp("torch")),
        )

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the picture resized (Pillow, bicubic, shorter side) and cut to a square at the centre."""
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
        # a classifier may stand in the file; features end before it
        state = {name: value for name, value in read_state(path).items() if not name.startswith("head.")}
        fill(self._bare, state, path, f"timm's {self.recipe.model}")
        return self._bare.to(self.device).eval().requires_grad_(False)
