"""Preference: would people choose this image for its prompt, by PickScore?"""

from evalkit.encoders.preference import PICKSCORE, load_pickscore
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Kirstain 2023 (arXiv 2305.01569)",
    needs="prompt",
    weights=PICKSCORE,
    on_request=True,
)
def pickscore(weights: Weights, device: str) -> Encoder:
    """Cosine between the features of an image and of its prompt, by a CLIP ViT-H/14 trained on users' choices."""
    return load_pickscore(weights, device)
