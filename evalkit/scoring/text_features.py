"""Text features with a store, and the count of prompts that a text encoder truncates."""

from collections.abc import Callable, Sequence

import numpy as np

from evalkit.encoders.torch_state import exact
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.metric_spec.metric_card import MetricCard, Model, TextEncoder
from evalkit.plural import plural
from evalkit.run.feature_cache import Features, FeatureStore


def text_features(encoder: Model, texts: Sequence[str], store: FeatureStore) -> dict[str, Features]:
    """Return the features of texts by text; each distinct text is encoded once, in batches."""
    compute = require_text_encoder(encoder).texts
    return _by_text(f"{encoder.recipe.key}|text", compute, texts, store, encoder.largest_batch)


def truncation_notes(card: MetricCard, encoder: Model, prompts: Sequence[str], store: FeatureStore) -> list[str]:
    """Return a line that counts the prompts longer than the model's context, or an empty list if all of them fit."""
    reader = require_text_encoder(encoder)

    def measure(part: Sequence[str]) -> Features:
        return np.array([[cut] for cut in reader.truncated(part)], dtype=np.float32)

    texts = [card.convention.text(prompt) for prompt in dict.fromkeys(prompts)]
    truncated = _by_text(f"{encoder.recipe.key}|truncated", measure, texts, store, encoder.largest_batch)
    count = sum(bool(truncated[text][0]) for text in texts)
    if not count:
        return []
    return [f"{card.name}: {count} of {plural(len(texts), 'prompt')} too long for the model; truncated, end token kept"]


def require_text_encoder(encoder: Model) -> TextEncoder:
    """Return the encoder if it encodes texts; a metric with `needs="prompt"` requires such an encoder.

    Raises:
        UserError: the encoder has no method `texts`.
    """
    if not hasattr(encoder, "texts"):
        raise UserError(f"{type(encoder).__name__}: has no method `texts`; a metric with needs='prompt' requires one")
    return encoder  # type: ignore[return-value]


def _by_text(
    recipe: str, compute: Callable[[Sequence[str]], Features], texts: Sequence[str], store: FeatureStore, largest_batch: int
) -> dict[str, Features]:
    """Return `compute(texts)` (n texts to n x d) by text, through the store."""
    keys = {text: sha256_bytes(text.encode()) for text in dict.fromkeys(texts)}
    features = store.get(recipe, list(keys.values()))
    missing = [text for text, key in keys.items() if key not in features]
    for start in range(0, len(missing), largest_batch):
        part = missing[start : start + largest_batch]
        with exact():
            computed = {keys[text]: vector for text, vector in zip(part, compute(part), strict=True)}
        store.put(recipe, computed)
        features.update(computed)
    return {text: features[key] for text, key in keys.items()}
