"""Diversity: how differently do the images of one case and arm look over the seeds, by LPIPS?"""

from evalkit.encoders.lpips import LPIPS, load_lpips
from evalkit.metric_spec.metric_card import PairEncoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="distance",
    limits=(0.0, None),
    source="Ruiz 2022 (DreamBooth), DIV; Zhang 2018, arXiv 1801.03924",
    needs="other_seeds_pixels",
    weights=LPIPS,
    on_request=True,
)
def diversity_lpips(weights: Weights, device: str) -> PairEncoder:
    """Mean LPIPS distance between an image and those of its case and arm at the other seeds."""
    return load_lpips(weights, device)
