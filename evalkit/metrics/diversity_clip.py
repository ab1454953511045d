"""Diversity: how far apart are the images of one case and arm over the seeds, by CLIP?"""

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="1 - cosine",
    limits=(0.0, 2.0),
    source="Ruiz 2022 (DreamBooth), DIV, there with LPIPS in place of CLIP",
    needs="other_seeds",
    weights=CLIP,
)
def diversity_clip(weights: Weights, device: str) -> Encoder:
    """Mean of 1 - cosine between CLIP's features of an image and those of its case and arm at the other seeds."""
    return load_clip(weights, device)
