"""Similarity of arms: how alike are the images of two arms at the same case and seed?"""

from typing import TYPE_CHECKING

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.encoders.dino import DINO, load_dino
from evalkit.encoders.lpips import LPIPS, load_lpips
from evalkit.encoders.pixel_pairs import PixelPairs
from evalkit.encoders.quality import LICENCE
from evalkit.encoders.torch_state import exact
from evalkit.metric_spec.metric_card import Encoder, PairEncoder, metric
from evalkit.metric_spec.signature import stamp
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from torch import Tensor


@metric(
    direction="none",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Orthogonal Monte Carlo Dropout, Table 1, first row",
    needs="other_arm",
    weights=CLIP,
)
def arm_similarity(weights: Weights, device: str) -> Encoder:
    """Cosine between the CLIP features of two arms' images of the same case and seed."""
    return load_clip(weights, device)


@metric(
    direction="none",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="as arm_similarity, with the features of Caron 2021, arXiv 2104.14294",
    needs="other_arm",
    weights=DINO,
)
def arm_dino(weights: Weights, device: str) -> Encoder:
    """Cosine between the DINO features of two arms' images of the same case and seed."""
    return load_dino(weights, device)


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


@metric(
    direction="none",
    unit="index",
    limits=(0.0, 1.0),
    source="Wang 2004, IEEE TIP 13(4)",
    needs="other_arm_pixels",
    licence=f"no weights; {LICENCE}",
    on_request=True,
)
def arm_ssim(weights: Weights, device: str) -> PairEncoder:
    """Structural similarity of luminance between two arms' images of the same case and seed, as pyiqa computes it."""

    def ssim(left: "Tensor", right: "Tensor") -> float:
        from pyiqa.archs.ssim_arch import SSIM

        with exact():
            return float(SSIM()(left[None].to(device).float() / 255, right[None].to(device).float() / 255))

    # the window of 11 pixels must fit into the image
    return PixelPairs("ssim-y", ssim, precision="fp64", smallest_side=11, libraries=(stamp("pyiqa"), stamp("torch")))


@metric(
    direction="none",
    unit="distance",
    limits=(0.0, None),
    source="Zhang 2018, arXiv 1801.03924",
    needs="other_arm_pixels",
    weights=LPIPS,
    on_request=True,
)
def arm_lpips(weights: Weights, device: str) -> PairEncoder:
    """LPIPS distance between two arms' images of the same case and seed; 0 for equal images."""
    return load_lpips(weights, device)
