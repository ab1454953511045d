"""Diversity: how many different images are the images of one case and arm worth, by DINO?"""

from evalkit.encoders.dino import DINO, load_dino
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="effective number of images",
    limits=(1.0, None),
    source="Friedman and Dieng 2023, arXiv 2210.02410, definition 3.1, with the cosine of DINO's features",
    needs="all_seeds",
    weights=DINO,
    on_request=True,
)
def diversity_vendi(weights: Weights, device: str) -> Encoder:
    """Vendi score of the images of a case and arm over its seeds: 1 for copies, their number where all are orthogonal."""
    return load_dino(weights, device)
