"""A scorer: metrics whose models are loaded once, for any number of calls on images outside a run."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import Literal, get_args

from evalkit.encoders.device import choose_device
from evalkit.errors import MissingWeightsError, UserError
from evalkit.io.image_arrays import ValueRange, check_range
from evalkit.metric_spec.metric_card import MetricCard, Model, Needs, feature_fault
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.metric_spec.similarity import cosine, mean_cosine
from evalkit.metrics.presets import with_preset
from evalkit.run.feature_cache import FeatureCache, Features, FeatureStore, MemoryFeatureStore
from evalkit.run.score_table import ImageScore
from evalkit.scoring.arguments import file_path, iterable, paths_by_name, whole_number
from evalkit.scoring.feature_extraction import extract
from evalkit.scoring.image_inputs import (
    ImageInput,
    ImageInputs,
    flat_images,
    prompt_per_image,
    references_by_concept,
    try_image_request,
)
from evalkit.scoring.image_requests import FeatureRequest, ScoringProblem
from evalkit.scoring.image_scores import ImageScores, ImageScoringError
from evalkit.scoring.joint_values import Requests, judged_value, mean_over_references, with_partners, with_texts
from evalkit.scoring.metric_models import load_models, select_metrics
from evalkit.scoring.text_features import text_features, truncation_notes

OnError = Literal["raise", "skip"]
# Images of a stream that are scored at a time.
STREAM = 256
# What only a run has.
OF_A_RUN: Mapping[Needs, str] = MappingProxyType(
    {
        "concepts": "the concepts",
        "other_arm": "two arms",
        "other_arm_pixels": "two arms",
        "other_seeds": "the seeds",
        "other_seeds_pixels": "the seeds",
        "all_seeds": "the seeds",
    }
)


class Scorer:
    """Metrics whose models are loaded at the first call and kept, to score images call by call.

    Args:
        metrics: names and metric cards.
        preset: the convention of the scores (`evalkit.metrics.presets.PRESETS`).
        weights: locations of models by name, such as `{"clip": "folder"}`; default: see `evalkit.weights.lookup.find`.
        device: a PyTorch device; default: CUDA, else MPS, else the CPU.
        batch_size: images per forward pass, at most.
        workers: threads that decode; default: up to 4.
        cache: a file that keeps features between calls and processes; default: none.

    Raises:
        UserError: a metric is unknown, or compares images of a run.
    """

    def __init__(
        self,
        metrics: Sequence[str | MetricCard],
        *,
        preset: str = DEFAULT_PRESET,
        weights: Mapping[str, str | PathLike[str]] | None = None,
        device: str | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        cache: str | PathLike[str] | None = None,
    ) -> None:
        """Check the metrics."""
        self.cards = with_preset(select_metrics(metrics), preset)
        for card in self.cards:
            if card.needs in OF_A_RUN:
                raise UserError(f"{card.name} compares {OF_A_RUN[card.needs]} of a run; use `evalkit score RUN`")
        self._given = paths_by_name("weights", weights)
        self.batch_size = whole_number("batch_size", batch_size)
        self.workers = None if workers is None else whole_number("workers", workers)
        self._cache = FeatureCache(file_path("cache", cache)) if cache is not None else None
        self._device = device
        self._models: dict[str, Model] = {}
        self._closed = False

    def to(self, device: str | None) -> "Scorer":
        """Use another device from now on, and return the scorer itself."""
        self._device, self._models = choose_device(device), {}
        return self

    def _load(self) -> dict[str, Model]:
        """Return the models, loaded at most once.

        Raises:
            MissingWeightsError: weights are unavailable; the message explains how to get them.
        """
        if self._closed:
            raise UserError("this scorer is closed; make another one")
        if not self._models:
            models, missing = load_models(self.cards, self._given, self._device)
            if missing:
                raise MissingWeightsError("; ".join(missing.values()))
            self._models = models
        return self._models

    def __enter__(self) -> "Scorer":
        """Return the scorer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release the models and close the cache."""
        self.close()

    def close(self) -> None:
        """Release the models and close the cache."""
        self._models, self._closed = {}, True
        if self._cache is not None:
            self._cache.close()

    @property
    def signatures(self) -> dict[str, str]:
        """Return the signature of each metric's scores."""
        models = self._load()
        return {card.name: card.signature(models[card.model].recipe) for card in self.cards}

    def __call__(
        self,
        images: "ImageInputs | Iterable[ImageInput]",
        *,
        prompts: str | Sequence[str] | None = None,
        references: "ImageInputs | Mapping[str, ImageInputs] | None" = None,
        value_range: ValueRange | None = None,
        on_error: OnError = "raise",
    ) -> ImageScores:
        """Score images: one row per image and metric, and per concept for metrics that compare with references.

        Args:
            images: paths, bytes of image files, PIL images, uint8 arrays (H x W, H x W x 3 or 4) or uint8 tensors (3 x H x W);
                a batch of arrays or tensors; dictionaries with an "image"; or an iterable of these, such as a DataLoader.
            prompts: one text for all images or one for each, without modifier tokens.
            references: images of one concept, or of several by name.
            value_range: black and white of arrays and tensors that are not uint8, such as (0, 1).
            on_error: "raise" an ImageScoringError with the scores of all other images, or "skip" images that fail; the result's
                `problems` name them.

        Raises:
            UserError: a metric lacks prompts or references, or the input is not images.
            MissingWeightsError: weights are unavailable; the message explains how to get them.
        """
        if on_error not in get_args(OnError):
            raise UserError(f"on_error={on_error!r}: give 'raise' or 'skip'")
        check_range(value_range)
        inputs = flat_images(images, "images")
        concepts = references_by_concept(references)
        texts = prompt_per_image(prompts, len(inputs))
        self._check_given(texts, concepts)
        self._load()
        scores = self._scores(inputs, concepts, texts, value_range)
        if scores.problems and on_error == "raise":
            raise ImageScoringError(scores)
        return scores

    def stream(
        self,
        images: "Iterable[ImageInput]",
        *,
        references: "ImageInputs | Mapping[str, ImageInputs] | None" = None,
        prompts: str | None = None,
        value_range: ValueRange | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[ImageScore]:
        """Yield the scores of any number of images, 256 images at a time, in constant memory."""
        remaining = iter(iterable("images", images, "any number of images, such as a list or a DataLoader"))
        while part := list(islice(remaining, STREAM)):
            yield from self(part, prompts=prompts, references=references, value_range=value_range, on_error=on_error)

    def _check_given(self, texts: Sequence[str] | None, concepts: Mapping[str, object]) -> None:
        for card in self.cards:
            if card.needs in ("prompt", "text_image") and texts is None:
                raise UserError(f"{card.name} compares images with prompts; give prompts=")
            if card.needs in ("references", "image_pair") and not concepts:
                raise UserError(f"{card.name} compares images with references; give references=")

    def _scores(
        self,
        inputs: Sequence[ImageInput],
        concepts: Mapping[str, Sequence[ImageInput]],
        texts: Sequence[str] | None,
        value_range: ValueRange | None,
    ) -> ImageScores:
        store: FeatureStore = self._cache or MemoryFeatureStore()
        problems: list[ScoringProblem] = []
        models = tuple(self._models)
        requests: Requests = [
            try_image_request(image, f"images[{index}]", models, value_range, problems) for index, image in enumerate(inputs)
        ]
        against = tuple(dict.fromkeys(card.model for card in self.cards if card.needs in ("references", "image_pair")))
        shown: dict[str, Requests] = {
            concept: [
                try_image_request(image, f"reference {index} of {concept or 'the concept'}", against, value_range, problems)
                for index, image in enumerate(group)
            ]
            for concept, group in (concepts if against else {}).items()
        }
        requests, shown = with_partners(self.cards, with_texts(self.cards, requests, texts), shown)
        wanted = [request for group in (*shown.values(), requests) for request in group if request is not None]
        counts = extract(wanted, self._models, store, batch_size=self.batch_size, workers=self.workers)
        scores = ImageScores(problems=[*problems, *counts.problems], notes=counts.told())
        scores.counts = counts
        self._encode_texts(texts, store)
        for index, request in enumerate(requests):
            if request is None:
                continue
            for card in self.cards:
                signature = card.signature(self._models[card.model].recipe)
                text = texts[index] if texts else ""
                for concept, value in self._values(card, request, store, shown, text, scores.problems):
                    row = ImageScore(request.name, request.key, card.name, concept, value, card.direction, signature)
                    scores.add(index, row)
        return scores

    def _encode_texts(self, texts: Sequence[str] | None, store: FeatureStore) -> None:
        """Encode all distinct prompts in batches, and warn of those that are truncated."""
        for card in self.cards:
            if card.needs == "prompt" and texts:
                encoder = self._models[card.model]
                text_features(encoder, [card.convention.text(text) for text in texts], store)
                for line in truncation_notes(card, encoder, texts, store):
                    warnings.warn(line, stacklevel=4)

    def _values(
        self,
        card: MetricCard,
        request: FeatureRequest,
        store: FeatureStore,
        shown: Mapping[str, Requests],
        text: str,
        problems: list[ScoringProblem],
    ) -> Iterator[tuple[str, float]]:
        """Yield a metric's values of one image, by concept if it compares with references; an image that failed has none."""
        encoder = self._models[card.model]
        recipe = encoder.recipe.key
        if card.needs == "text_image":
            judged = judged_value(card, recipe, request, text, store)
            yield from () if judged is None else (("", judged),)
            return
        if card.needs == "image_pair":
            for concept, group in shown.items():
                mean = mean_over_references(recipe, request, group, store)
                yield from () if mean is None or not math.isfinite(mean) else ((concept, mean),)
            return
        features = self._usable(card, request, store, problems)
        if features is None:
            return
        if card.needs == "image":
            yield "", float(features[0])
        elif card.needs == "prompt":
            prompt = card.convention.text(text)
            yield "", card.convention.score(float(cosine(features, text_features(encoder, [prompt], store)[prompt])))
        else:
            for concept, group in shown.items():
                vectors = [
                    None if reference is None else self._usable(card, reference, store, problems)
                    for reference in card.convention.references(group)
                ]
                whole = [vector for vector in vectors if vector is not None]
                if len(whole) == len(vectors):
                    yield concept, card.convention.score(mean_cosine(features, whole))

    def _usable(
        self, card: MetricCard, request: FeatureRequest, store: FeatureStore, problems: list[ScoringProblem]
    ) -> Features | None:
        """Return an image's features, or None if it has none, or none that the metric can use."""
        features = store.get(self._models[card.model].recipe.key, [request.key]).get(request.key)
        if features is None:
            known = any(problem.key == request.key and problem.model in ("", card.model) for problem in problems)
            if not known:
                reason = f"{request.name}: the cache does not return its features of {card.model}; remove the cache"
                problems.append(ScoringProblem(request.name, request.key, card.model, reason))
            return None
        fault = feature_fault(card, features)
        if fault:
            problem = ScoringProblem(request.name, request.key, card.model, f"{request.name}: {fault}")
            if problem not in problems:
                problems.append(problem)
            return None
        return features
