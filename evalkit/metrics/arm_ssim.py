"""Agreement of arms: do the images of two arms have the same structure, pixel by pixel?"""

from typing import TYPE_CHECKING

from evalkit.encoders.forward import exact
from evalkit.encoders.pixel_pairs import PixelPairs
from evalkit.encoders.quality import LICENCE
from evalkit.metric_spec.metric_card import PairEncoder, metric
from evalkit.metric_spec.signature import stamp
from evalkit.weights.lookup import Weights

if TYPE_CHECKING:
    from torch import Tensor


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

    # the window of 11 pixels must lie in the image
    return PixelPairs("ssim-y", ssim, precision="fp64", smallest_side=11, libraries=(stamp("pyiqa"), stamp("torch")))
