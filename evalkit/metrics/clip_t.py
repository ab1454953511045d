"""Prompt fidelity: does the image show what the prompt says, by CLIP?"""

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.metric_spec.metric_card import Encoder, metric
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.weights.lookup import Weights


@metric(
    direction="higher",
    unit="cosine",
    limits=(-1.0, 1.0),
    source="Ruiz 2022 (DreamBooth), section 4.1; Ni 2025 (noise consistency), section 5.2",
    needs="prompt",
    weights=CLIP,
    preset=DEFAULT_PRESET,
)
def clip_t(weights: Weights, device: str) -> Encoder:
    """Cosine between CLIP's features of an image and of its prompt without the concepts' modifier tokens."""
    return load_clip(weights, device)
