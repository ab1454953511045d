"""Agreement of arms: how alike are the images of two arms at the same case and seed, by DINO?"""

from evalkit.encoders.dino import DINO, load_dino
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="none",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="as arm_similarity, with the features of Caron 2021, arXiv 2104.14294",
    needs="other_arm",
    weights=DINO,
)
def arm_dino(weights: Weights, device: str) -> Encoder:
    """Cosine between DINO's features of two arms' images of the same case and seed."""
    return load_dino(weights, device)
