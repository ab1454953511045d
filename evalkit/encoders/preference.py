"""CLIP ViT-H/14 trained on what people prefer: HPSv2 (Wu 2023) and PickScore (Kirstain 2023), through open_clip."""

from dataclasses import replace
from typing import TYPE_CHECKING

from evalkit.encoders.clip import CONFIG, ClipEncoder
from evalkit.encoders.forward import padded_square
from evalkit.io.image_reader import Pixels
from evalkit.weights.lookup import Source, Weights

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE = "ViT-H-14"
HPSV2 = Source(
    name="hpsv2",
    hub="xswu/HPSv2",
    files=("HPS_v2_compressed.pt",),
    licence="Apache-2.0 (HPSv2)",
    config=CONFIG,
)
PICKSCORE = Source(
    name="pickscore",
    hub="yuvalkirstain/PickScore_v1",
    files=("model.safetensors",),
    licence="MIT (PickScore's code; its weights name none that was found)",
    config=CONFIG,
)


def load_hpsv2(weights: Weights, device: str) -> "PaddedClipEncoder":
    """Return HPSv2 with these weights: ViT-H/14, or what the weights' folder describes in open_clip_config.json."""
    return PaddedClipEncoder(weights, device, ARCHITECTURE)


def load_pickscore(weights: Weights, device: str) -> ClipEncoder:
    """Return PickScore with these weights: ViT-H/14, or what the weights' folder describes in open_clip_config.json."""
    return ClipEncoder(weights, device, ARCHITECTURE)


class PaddedClipEncoder(ClipEncoder):
    """CLIP that sees whole images: the longer side at the model's size, the shorter one padded with black."""

    def __init__(self, weights: Weights, device: str, architecture: str) -> None:
        """Read the architecture, as ClipEncoder does."""
        super().__init__(weights, device, architecture)
        self.recipe = replace(self.recipe, preparation=f"pil-bicubic-{self.size}-pad")

    def prepare(self, pixels: Pixels) -> "Tensor":
        """Return the image as a square, uint8 3 x H x W."""
        return padded_square(pixels.image, self.size)
