"""Agreement of arms: how alike are the images of two arms at the same case and seed, by CLIP?"""

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="none",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Orthogonal Monte Carlo Dropout, Table 1, first row",
    needs="other_arm",
    weights=CLIP,
)
def arm_similarity(weights: Weights, device: str) -> Encoder:
    """Cosine between CLIP's features of two arms' images of the same case and seed."""
    return load_clip(weights, device)
