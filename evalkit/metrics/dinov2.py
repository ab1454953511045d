"""Subject fidelity: is each concept recognisable, by DINOv2?"""

from evalkit.encoders.dino import DINOV2, load_dinov2
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Oquab 2024, arXiv 2304.07193; as DreamBench++ (Peng 2024, arXiv 2406.16855) reads pictures",
    needs="references",
    weights=DINOV2,
    on_request=True,
    preset=DEFAULT_PRESET,
)
def dinov2(weights: Weights, device: str) -> Encoder:
    """Mean cosine between DINOv2's features of an image and of each reference of a concept."""
    return load_dinov2(weights, device)
