"""Agreement of arms: how many decibels is one arm's image from another's, pixel by pixel?"""

from typing import TYPE_CHECKING

from evalkit.encoders.pixel_pairs import PixelPairs
from evalkit.metric_spec.metric_card import PairEncoder, metric
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from torch import Tensor


@metric(
    direction="none",
    unit="dB",
    limits=(0.0, None),
    source="10 log10(255^2 / mean squared difference of 8-bit RGB)",
    needs="other_arm_pixels",
    licence="no weights; Apache-2.0",
    on_request=True,
)
def arm_psnr(weights: Weights, device: str) -> PairEncoder:
    """Peak signal-to-noise ratio between two arms' images of the same case and seed; equal images have none."""

    def psnr(left: "Tensor", right: "Tensor") -> float:
        import math

        import torch

        difference = left.to(torch.int32) - right.to(torch.int32)
        squares = int((difference * difference).sum(dtype=torch.int64))
        return 10 * math.log10(255**2 * difference.numel() / squares) if squares else math.inf

    return PixelPairs("psnr-rgb", psnr, precision="int64")
