"""Values of joint metrics for images outside a run: what each image is judged or compared with, and the results."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evalkit.metric_spec.metric_card import MetricCard
from evalkit.run.feature_cache import FeatureStore
from evalkit.scoring.image_requests import FeatureRequest
from evalkit.scoring.joint_keys import Texts, joint_key
from evalkit.scoring.pixel_pairs import pair_key, partners

Requests = Sequence[FeatureRequest | None]


def with_texts(cards: Sequence[MetricCard], requests: Requests, prompts: Sequence[str] | None) -> Requests:
    """Return the requests with the texts that models should see next to each image."""
    judges = [card for card in cards if card.needs == "text_image"]
    if not judges or prompts is None:
        return requests
    completed: list[FeatureRequest | None] = []
    for request, prompt in zip(requests, prompts, strict=True):
        texts: dict[str, dict[Texts, None]] = {}
        for card in judges:
            texts.setdefault(card.model, {})[(card.convention.text(prompt),)] = None
        wanted = {model: tuple(entries) for model, entries in texts.items()}
        completed.append(request and replace(request, texts=wanted))
    return completed


def with_partners(
    cards: Sequence[MetricCard], requests: Requests, shown: Mapping[str, Requests]
) -> tuple[Requests, dict[str, Requests]]:
    """Return images and references, each with the others that models should compare it with."""
    models = {card.model for card in cards if card.needs == "image_pair"}
    references = [reference for group in shown.values() for reference in group if reference is not None]
    pairs = partners((image.key, other.key) for image in requests if image is not None for other in references)
    if not models:
        return requests, dict(shown)

    def completed(request: FeatureRequest | None) -> FeatureRequest | None:
        if request is None or request.key not in pairs:
            return request
        return replace(request, partners={model: pairs[request.key] for model in models})

    return [completed(request) for request in requests], {
        concept: [completed(reference) for reference in group] for concept, group in shown.items()
    }


def judged_value(card: MetricCard, recipe: str, request: FeatureRequest, prompt: str, store: FeatureStore) -> float | None:
    """Return the score of an image with its prompt, or None if the model failed."""
    key = joint_key(request.key, (card.convention.text(prompt),))
    stored = store.get(recipe, [key])
    return float(stored[key][0]) if key in stored else None


def mean_over_references(recipe: str, request: FeatureRequest, references: Requests, store: FeatureStore) -> float | None:
    """Return the mean score of an image with each reference, or None if one of them is missing."""
    keys = [pair_key(request.key, reference.key) for reference in references if reference is not None]
    stored = store.get(recipe, keys)
    if len(keys) < len(references) or len(stored) < len(set(keys)):
        return None
    return float(np.mean([stored[key][0] for key in keys]))
