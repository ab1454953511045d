"""Preference: would people choose this image for its prompt, by HPSv2?"""

from evalkit.encoders.preference import HPSV2, load_hpsv2
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Wu 2023 (arXiv 2306.09341)",
    needs="prompt",
    weights=HPSV2,
    on_request=True,
)
def hpsv2(weights: Weights, device: str) -> Encoder:
    """Cosine between the features of an image and of its prompt, by a CLIP ViT-H/14 trained on choices between images."""
    return load_hpsv2(weights, device)
