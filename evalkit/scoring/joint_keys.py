"""Cache keys of results that depend on an image together with texts, and the texts that still lack one."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from evalkit.io.atomic_files import sha256_bytes
from evalkit.run.feature_cache import FeatureStore

# What a model sees next to an image: one prompt, or the phrases of a detector in their order.
Texts: TypeAlias = tuple[str, ...]


def joint_key(sha256: str, texts: Texts) -> str:
    """Return the key of an image with texts; other texts, or another order of them, have another key."""
    return f"{sha256}~{sha256_bytes(chr(0).join(texts).encode())}"


def lacking_texts(store: FeatureStore, recipe: str, sha256: str, wanted: Iterable[Texts]) -> Sequence[Texts]:
    """Return the texts whose result with an image is not in the store."""
    keys = {joint_key(sha256, texts): texts for texts in wanted}
    stored = store.get(recipe, list(keys))
    return [texts for key, texts in keys.items() if key not in stored]
