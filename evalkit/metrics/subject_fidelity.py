"""Subject fidelity: is each concept recognisable? Mean cosine with the concept's references, by CLIP, DINO and DINOv2."""

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.encoders.dino import DINO, DINOV2, load_dino, load_dinov2
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.weights.lookup import Weights

DREAMBOOTH = "Ruiz 2022 (DreamBooth), section 4.1; Ni 2025 (noise consistency), section 5.2"


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source=DREAMBOOTH,
    needs="references",
    weights=CLIP,
    preset=DEFAULT_PRESET,
)
def clip_i(weights: Weights, device: str) -> Encoder:
    """Mean cosine between the CLIP features of an image and those of each reference of a concept."""
    return load_clip(weights, device)


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source=DREAMBOOTH,
    needs="references",
    weights=DINO,
    preset=DEFAULT_PRESET,
)
def dino(weights: Weights, device: str) -> Encoder:
    """Mean cosine between the DINO features of an image and those of each reference of a concept."""
    return load_dino(weights, device)


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Oquab 2024, arXiv 2304.07193; preprocessing of DreamBench++ (Peng 2024, arXiv 2406.16855)",
    needs="references",
    weights=DINOV2,
    on_request=True,
    preset=DEFAULT_PRESET,
)
def dinov2(weights: Weights, device: str) -> Encoder:
    """Mean cosine between the DINOv2 features of an image and those of each reference of a concept."""
    return load_dinov2(weights, device)
