"""Subject fidelity: is each concept recognisable, by DINO, which tells subjects of one class apart?"""

from evalkit.encoders.dino import DINO, load_dino
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Ruiz 2022 (DreamBooth), section 4.1; Ni 2025 (noise consistency), section 5.2",
    needs="references",
    weights=DINO,
    preset=DEFAULT_PRESET,
)
def dino(weights: Weights, device: str) -> Encoder:
    """Mean cosine between DINO's features of an image and of each reference of a concept."""
    return load_dino(weights, device)
