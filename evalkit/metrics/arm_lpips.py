"""Agreement of arms: how differently do the images of two arms look, by LPIPS?"""

from evalkit.encoders.lpips import LPIPS, load_lpips
from evalkit.metric_spec.metric_card import PairEncoder, metric
from evalkit.weights.lookup import Weights


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
