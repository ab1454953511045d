"""Diversity: how far apart are the images of one case and arm over the seeds, by DINO?"""

from evalkit.encoders.dino import DINO, load_dino
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="1 - cosine",
    limits=(0.0, 2.0),
    source="Ruiz 2022 (DreamBooth), DIV, there with LPIPS in place of DINO",
    needs="other_seeds",
    weights=DINO,
)
def diversity_dino(weights: Weights, device: str) -> Encoder:
    """Mean of 1 - cosine between DINO's features of an image and those of its case and arm at the other seeds."""
    return load_dino(weights, device)
