"""Prompt fidelity and preference: cosine of an image with its prompt, by CLIP, HPSv2 and PickScore."""

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.encoders.preference import HPSV2, PICKSCORE, load_hpsv2, load_pickscore
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
    """Cosine between the CLIP features of an image and those of its prompt without the concepts' modifier tokens."""
    return load_clip(weights, device)


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
