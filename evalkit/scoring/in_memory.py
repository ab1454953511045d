"""Score pictures that belong to no run: paths or pictures in memory in, one row per image and metric out."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from evalkit.errors import MissingWeightsError, UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.io.image_arrays import ValueRange, check_range, is_array, to_image, unbatched
from evalkit.io.image_reader import Pixels, convert, fingerprint, read_bytes
from evalkit.metric_spec.metric_card import Loadable, MetricCard, Model, Needs, TextEncoder
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.metric_spec.similarity import cosine, cosine_matrix
from evalkit.metrics.iqa import cards_named
from evalkit.metrics.models import known_sources
from evalkit.metrics.plugins import known_metrics
from evalkit.metrics.presets import with_preset
from evalkit.run.feature_cache import Features, MemoryStore, Store
from evalkit.run.score_table import Direction
from evalkit.scoring.feature_extraction import Item, extract, file_loader
from evalkit.weights.lookup import NO_WEIGHTS, check_names, find

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# an array is H x W x 3, a tensor 3 x H x W; pictures may also be one array N x H x W x 3 or tensor N x 3 x H x W
Picture: TypeAlias = "str | PathLike[str] | Image.Image | NDArray[Any] | Tensor"
Pictures: TypeAlias = "Sequence[Picture] | NDArray[Any] | Tensor"
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


@dataclass(frozen=True, slots=True)
class Score:
    """The value of one metric for one image; `concept` is set where references of several concepts were given."""

    image: str
    image_sha256: str
    metric: str
    concept: str
    value: float
    direction: Direction
    signature: str


def score(
    images: Pictures,
    metrics: Sequence[str | MetricCard],
    *,
    prompts: str | Sequence[str] | None = None,
    references: "Pictures | Mapping[str, Pictures] | None" = None,
    value_range: ValueRange | None = None,
    preset: str = DEFAULT_PRESET,
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
) -> list[Score]:
    """Return the scores of images, in the order of images, metrics and concepts.

    Pictures are paths, PIL images, uint8 arrays (H x W x 3) or uint8 tensors (3 x H x W). Arrays and tensors of other numbers
    need `value_range`, what black and white are in them, such as (0, 1).

    `prompts` is one text for all images or one for each, without modifier tokens; `references` are the pictures of one concept,
    or of several by name; `preset` names the convention (`evalkit.metrics.presets.PRESETS`); `weights` gives the location of
    models by name (`{"clip": "folder"}`), as in `evalkit.weights.lookup.find`. A warning counts prompts that are longer than
    the model reads.

    Raises:
        UserError: an image can't be read or scored, a metric lacks prompts or references, or it compares arms of a run.
        MissingWeightsError: weights are nowhere to be had; the message says how to get them.
    """
    cards = with_preset(choose(metrics), preset)
    given = {name: Path(path) for name, path in (weights or {}).items()}
    check_range(value_range)
    images = unbatched(images, "images")
    concepts = _concepts(references)
    texts = _texts(prompts, len(images))
    _check_given(cards, texts, concepts)
    encoders, missing = load_encoders(cards, given, device)
    if missing:
        raise MissingWeightsError("; ".join(missing.values()))
    store = MemoryStore()
    for card in cards:
        if card.needs == "prompt" and texts:
            for line in truncation(card, encoders[card.model], texts, store):
                warnings.warn(line, stacklevel=3)

    pictures = [_item(picture, f"images[{index}]", cards, value_range) for index, picture in enumerate(images)]
    with_references = [card for card in cards if card.needs == "references"]
    shown = {
        concept: [
            _item(picture, f"reference {index} of {concept or 'the concept'}", with_references, value_range)
            for index, picture in enumerate(group)
        ]
        for concept, group in concepts.items()
    }
    everything = [*pictures, *(item for group in shown.values() for item in group if with_references)]
    tally = extract(everything, encoders, store, batch_size=batch_size)
    if tally.problems:
        raise UserError(tally.problems[0].reason)
    rows: list[Score] = []
    for index, item in enumerate(pictures):
        for card in cards:
            encoder = encoders[card.model]
            own = store.get(encoder.recipe.key, [item.key])[item.key]
            for concept, value in _values(card, encoder, own, store, shown, texts[index] if texts else ""):
                rows.append(
                    Score(item.name, item.key, card.name, concept, value, card.direction, card.signature(encoder.recipe))
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


def choose(metrics: Sequence[str | MetricCard]) -> list[MetricCard]:
    """Return the cards asked for, by name or as they are, each once."""
    if isinstance(metrics, str):
        raise UserError(f"metrics is a list: [{metrics!r}]")
    if not metrics:
        raise UserError("metrics: is empty; evalkit.list_metrics() names them")
    names = [entry for entry in metrics if isinstance(entry, str)]
    own = [entry for entry in metrics if isinstance(entry, MetricCard)]
    return [*cards_named(known_metrics(), names), *(card for card in own if card.name not in names)]


def load_encoders(
    cards: Sequence[Loadable], given: Mapping[str, Path], device: str | None
) -> tuple[dict[str, Model], dict[str, str]]:
    """Return the models of these metrics by name, each loaded once, and for those without weights how to get them.

    Raises:
        UserError: weights are given for an unknown model, or what is given is not the model's.
    """
    from evalkit.encoders.forward import choose_device

    own = {card.weights.name: card.weights for card in cards if card.weights}
    check_names(given, {**known_sources(known_metrics().values()), **own}.values())
    encoders: dict[str, Model] = {}
    missing: dict[str, str] = {}
    chosen = choose_device(device)
    for card in cards:
        if card.model in encoders or card.model in missing:
            continue
        try:
            weights = find(card.weights, given) if card.weights else NO_WEIGHTS
            encoders[card.model] = card.load(weights, chosen)
        except MissingWeightsError as error:
            missing[card.model] = str(error)
    return encoders, missing


def text_features(encoder: Model, texts: Sequence[str], store: Store) -> dict[str, Features]:
    """Return the features of texts by text; each different one is encoded once."""
    return _by_text(f"{encoder.recipe.key}|text", as_text_encoder(encoder).texts, texts, store, encoder.largest_batch)


def truncation(card: MetricCard, encoder: Model, prompts: Sequence[str], store: Store) -> list[str]:
    """Return what to say of prompts that are longer than the model reads: a line, or nothing where none is."""
    reader = as_text_encoder(encoder)

    def measure(part: Sequence[str]) -> Features:
        return np.array([[cut] for cut in reader.truncated(part)], dtype=np.float32)

    texts = [card.convention.text(prompt) for prompt in dict.fromkeys(prompts)]
    found = _by_text(f"{encoder.recipe.key}|truncated", measure, texts, store, encoder.largest_batch)
    cut = sum(bool(found[text][0]) for text in texts)
    return [f"{card.name}: {cut} of {len(texts)} prompts are longer than the model reads; cut, end token kept"] if cut else []


def _by_text(
    recipe: str, compute: Callable[[Sequence[str]], Features], texts: Sequence[str], store: Store, largest_batch: int
) -> dict[str, Features]:
    """Return what `compute` gives for texts, by text: n texts to n x d; it is kept in the store, and computed once."""
    keys = {text: sha256_bytes(text.encode()) for text in dict.fromkeys(texts)}
    found = store.get(recipe, list(keys.values()))
    lacking = [text for text, key in keys.items() if key not in found]
    for start in range(0, len(lacking), largest_batch):
        part = lacking[start : start + largest_batch]
        fresh = {keys[text]: vector for text, vector in zip(part, compute(part), strict=True)}
        store.put(recipe, fresh)
        found.update(fresh)
    return {text: found[key] for text, key in keys.items()}


def as_text_encoder(encoder: Model) -> TextEncoder:
    """Return the encoder itself where it also reads texts; a metric that needs prompts must have such a one."""
    if not hasattr(encoder, "texts"):
        raise TypeError(f"{type(encoder).__name__} reads no texts, so its metric can't need prompts")
    return encoder  # type: ignore[return-value]


def _values(
    card: MetricCard, encoder: Model, own: Features, store: Store, shown: Mapping[str, Sequence[Item]], text: str
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


def mean_cosine(own: Features, references: Sequence[Features]) -> float:
    """Return the mean cosine of one image's features with those of all references of a concept."""
    return float(cosine_matrix(own[None, :], np.stack(references)).mean())


def _concepts(references: "Pictures | Mapping[str, Pictures] | None") -> dict[str, Sequence[Picture]]:
    """Return references by concept; a plain list is a concept without a name."""
    if references is None:
        return {}
    groups = dict(references) if isinstance(references, Mapping) else {"": references}
    concepts = {}
    for concept, group in groups.items():
        place = f"references{f' of {concept}' if concept else ''}"
        concepts[concept] = unbatched(group, place)
        if not concepts[concept]:
            raise UserError(f"{place}: give a list of at least one picture")
    return concepts


def _texts(prompts: str | Sequence[str] | None, count: int) -> list[str] | None:
    """Return one prompt per image, or None where none were given."""
    if prompts is None:
        return None
    texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
    if len(texts) != count:
        raise UserError(f"{len(texts)} prompts for {count} images; give one for all, or one for each")
    empty = next((index for index, text in enumerate(texts) if not text.strip()), None)
    if empty is not None:
        raise UserError(f"prompts[{empty}]: is empty")
    return texts


def _item(picture: Picture, place: str, cards: Sequence[MetricCard], value_range: ValueRange | None) -> Item:
    """Return a picture as something to extract features from, named by its path or place."""
    models = tuple(dict.fromkeys(card.model for card in cards))
    if is_array(picture):
        picture = to_image(picture, place, value_range)
    if isinstance(picture, Image.Image):

        def load(image: Image.Image = picture) -> Pixels:
            return convert(image, place)

        return Item(fingerprint(picture), place, load, models)
    if not isinstance(picture, (str, PathLike)):
        raise UserError(
            f"{place}: of type {type(picture).__name__}, is no picture; "
            "give a path, a PIL image, a uint8 array H x W x 3 or a uint8 tensor 3 x H x W"
        )
    path = Path(picture)
    key = sha256_bytes(read_bytes(path))
    return Item(key, str(path), file_loader(path, key), models)
