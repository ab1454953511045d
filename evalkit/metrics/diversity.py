"""Diversity: how different are the images of one case and arm over the seeds, by CLIP, DINO, LPIPS and the Vendi score?"""

from evalkit.encoders.clip import CLIP, load_clip
from evalkit.encoders.dino import DINO, load_dino
from evalkit.encoders.lpips import LPIPS, load_lpips
from evalkit.metric_spec.metric_card import Encoder, PairEncoder, metric
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
    """Mean of 1 - cosine between the CLIP features of an image and those of its case and arm at the other seeds."""
    return load_clip(weights, device)


@metric(
    direction="higher",
    unit="1 - cosine",
    limits=(0.0, 2.0),
    source="Ruiz 2022 (DreamBooth), DIV, there with LPIPS in place of DINO",
    needs="other_seeds",
    weights=DINO,
)
def diversity_dino(weights: Weights, device: str) -> Encoder:
    """Mean of 1 - cosine between the DINO features of an image and those of its case and arm at the other seeds."""
    return load_dino(weights, device)


@metric(
    direction="higher",
    unit="distance",
    limits=(0.0, None),
    source="Ruiz 2022 (DreamBooth), DIV; Zhang 2018, arXiv 1801.03924",
    needs="other_seeds_pixels",
    weights=LPIPS,
    on_request=True,
)
def diversity_lpips(weights: Weights, device: str) -> PairEncoder:
    """Mean LPIPS distance between an image and those of its case and arm at the other seeds."""
    return load_lpips(weights, device)


@metric(
    direction="higher",
    unit="effective number of images",
    limits=(1.0, None),
    source="Friedman and Dieng 2023, arXiv 2210.02410, definition 3.1, with the cosine of DINO features",
    needs="all_seeds",
    weights=DINO,
    on_request=True,
)
def diversity_vendi(weights: Weights, device: str) -> Encoder:
    """Vendi score of the images of a case and arm over its seeds: 1 for copies, their number if all are orthogonal."""
    return load_dino(weights, device)
