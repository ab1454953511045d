"""Concept-level metrics: is each concept there, how often, how alike, and is it mixed up with another one?"""

from evalkit.encoders.concept_crops import ConceptCrops, load_concept_crops
from evalkit.encoders.detectors import DETECTOR
from evalkit.encoders.dino import DINO, load_dino
from evalkit.metric_spec.metric_card import CropEncoder, metric
from evalkit.weights.lookup import Weights

CROPS = CropEncoder(DINO, load_dino)
MUDI = "after Detect-and-Compare of Jang 2024 (MuDI, arXiv 2404.04243), with Hungarian assignment"


@metric(
    direction="higher", unit="0 or 1", limits=(0.0, 1.0), source=MUDI, needs="concepts", weights=DETECTOR, crops=CROPS,
    on_request=True,
)  # fmt: skip
def concept_presence(weights: Weights, device: str) -> ConceptCrops:
    """Whether a detected object is assigned to the concept and resembles its references enough."""
    return load_concept_crops(weights, device)


@metric(
    direction="none", unit="objects", limits=(0.0, None), source="after Ghosh 2023 (GenEval, arXiv 2310.11513)",
    needs="concepts", weights=DETECTOR, crops=CROPS, on_request=True,
)  # fmt: skip
def concept_count(weights: Weights, device: str) -> ConceptCrops:
    """How many detected objects have the concept's phrase and resemble no other concept of the case more."""
    return load_concept_crops(weights, device)


@metric(
    direction="higher", unit="cosine", limits=(-1.0, 1.0), source=MUDI, needs="concepts", weights=DETECTOR, crops=CROPS,
    on_request=True,
)  # fmt: skip
def concept_identity(weights: Weights, device: str) -> ConceptCrops:
    """Mean cosine between the crop assigned to a concept and its references; absent if no object is assigned."""
    return load_concept_crops(weights, device)


@metric(
    direction="higher", unit="cosine", limits=(-2.0, 2.0), source=MUDI, needs="concepts", weights=DETECTOR, crops=CROPS,
    on_request=True,
)  # fmt: skip
def concept_margin(weights: Weights, device: str) -> ConceptCrops:
    """Identity minus the largest similarity of the same crop to another concept of the case: below 0, features leaked."""
    return load_concept_crops(weights, device)


@metric(
    direction="lower", unit="0 or 1", limits=(0.0, 1.0), source=MUDI, needs="concepts", weights=DETECTOR, crops=CROPS,
    on_request=True,
)  # fmt: skip
def concept_swap(weights: Weights, device: str) -> ConceptCrops:
    """Whether an object assigned to one concept of the case resembles another one more."""
    return load_concept_crops(weights, device)


@metric(
    direction="lower", unit="objects", limits=(0.0, None), source="after Ghosh 2023 (GenEval, arXiv 2310.11513)",
    needs="concepts", weights=DETECTOR, crops=CROPS, on_request=True,
)  # fmt: skip
def concept_duplicates(weights: Weights, device: str) -> ConceptCrops:
    """How many detected objects there are beyond one for each concept of the case."""
    return load_concept_crops(weights, device)


@metric(
    direction="higher", unit="0 or 1", limits=(0.0, 1.0), source=MUDI, needs="concepts", weights=DETECTOR, crops=CROPS,
    on_request=True,
)  # fmt: skip
def all_present(weights: Weights, device: str) -> ConceptCrops:
    """Whether all concepts of the case are present in the image."""
    return load_concept_crops(weights, device)
