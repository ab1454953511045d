"""Score images that belong to no run: paths or images in memory in, one row per image and metric out."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from evalkit.errors import MissingWeightsError, UserError
from evalkit.io.image_arrays import ValueRange, check_range, unbatched
from evalkit.metric_spec.metric_card import MetricCard, Model, Needs
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.metric_spec.similarity import cosine, mean_cosine
from evalkit.metrics.presets import with_preset
from evalkit.run.feature_cache import Features, FeatureStore, MemoryFeatureStore
from evalkit.run.score_table import ImageScore
from evalkit.scoring.feature_extraction import ImageRequest, extract
from evalkit.scoring.image_inputs import ImageInputs, image_request, prompt_per_image, references_by_concept
from evalkit.scoring.metric_models import load_models, select_metrics
from evalkit.scoring.text_features import text_features, truncation_notes

# What only a run has.
OF_A_RUN: Mapping[Needs, str] = MappingProxyType(
    {
        "other_arm": "two arms",
        "other_arm_pixels": "two arms",
        "other_seeds": "the seeds",
        "other_seeds_pixels": "the seeds",
        "all_seeds": "the seeds",
    }
)


def score_images(
    images: ImageInputs,
    metrics: Sequence[str | MetricCard],
    *,
    prompts: str | Sequence[str] | None = None,
    references: "ImageInputs | Mapping[str, ImageInputs] | None" = None,
    value_range: ValueRange | None = None,
    preset: str = DEFAULT_PRESET,
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
) -> list[ImageScore]:
    """Return the scores of images, in the order of images, metrics and concepts.

    Images are paths, PIL images, uint8 arrays (H x W x 3) or uint8 tensors (3 x H x W). Arrays and tensors of other numbers
    need `value_range`, what black and white are in them, such as (0, 1).

    `prompts` is one text for all images or one for each, without modifier tokens; `references` are the pictures of one concept,
    or of several by name; `preset` names the convention (`evalkit.metrics.presets.PRESETS`); `weights` gives the location of
    models by name (`{"clip": "folder"}`), as in `evalkit.weights.lookup.find`. A warning counts prompts that are longer than
    the model reads.

    Raises:
        UserError: an image can't be read or scored, a metric lacks prompts or references, or it compares arms of a run.
        MissingWeightsError: weights are nowhere to be had; the message says how to get them.
    """
    cards = with_preset(select_metrics(metrics), preset)
    given = {name: Path(path) for name, path in (weights or {}).items()}
    check_range(value_range)
    images = unbatched(images, "images")
    concepts = references_by_concept(references)
    texts = prompt_per_image(prompts, len(images))
    _check_given(cards, texts, concepts)
    encoders, missing = load_models(cards, given, device)
    if missing:
        raise MissingWeightsError("; ".join(missing.values()))
    store = MemoryFeatureStore()
    for card in cards:
        if card.needs == "prompt" and texts:
            for line in truncation_notes(card, encoders[card.model], texts, store):
                warnings.warn(line, stacklevel=3)

    models = tuple(encoders)
    pictures = [image_request(image, f"images[{index}]", models, value_range) for index, image in enumerate(images)]
    with_references = tuple(dict.fromkeys(card.model for card in cards if card.needs == "references"))
    shown = {
        concept: [
            image_request(image, f"reference {index} of {concept or 'the concept'}", with_references, value_range)
            for index, image in enumerate(group)
        ]
        for concept, group in concepts.items()
    }
    everything = [*pictures, *(item for group in shown.values() for item in group if with_references)]
    tally = extract(everything, encoders, store, batch_size=batch_size)
    if tally.problems:
        raise UserError(tally.problems[0].reason)
    rows: list[ImageScore] = []
    for index, item in enumerate(pictures):
        for card in cards:
            encoder = encoders[card.model]
            own = store.get(encoder.recipe.key, [item.key])[item.key]
            for concept, value in _values(card, encoder, own, store, shown, texts[index] if texts else ""):
                rows.append(
                    ImageScore(item.name, item.key, card.name, concept, value, card.direction, card.signature(encoder.recipe))
                )
    return rows


def _check_given(cards: Sequence[MetricCard], texts: Sequence[str] | None, concepts: Mapping[str, object]) -> None:
    """Raise a UserError that names the first metric that lacks prompts or references, or compares what only a run has."""
    for card in cards:
        if card.needs == "prompt" and texts is None:
            raise UserError(f"{card.name} compares images with prompts; give prompts=")
        if card.needs == "references" and not concepts:
            raise UserError(f"{card.name} compares images with references; give references=")
        if card.needs in OF_A_RUN:
            raise UserError(f"{card.name} compares {OF_A_RUN[card.needs]} of a run; use `evalkit score RUN`")


def _values(
    card: MetricCard, encoder: Model, own: Features, store: FeatureStore, shown: Mapping[str, Sequence[ImageRequest]], text: str
) -> list[tuple[str, float]]:
    """Return a metric's values of one image, by concept where it compares with references."""
    if card.needs == "image":
        return [("", float(own[0]))]
    if card.needs == "prompt":
        meant = card.convention.text(text)
        return [("", card.convention.score(float(cosine(own, text_features(encoder, [meant], store)[meant]))))]
    values = []
    for concept, group in shown.items():
        keys = [item.key for item in card.convention.references(group)]
        vectors = store.get(encoder.recipe.key, keys)
        values.append((concept, card.convention.score(mean_cosine(own, [vectors[key] for key in keys]))))
    return values
