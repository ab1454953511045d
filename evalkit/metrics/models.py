"""Every model that metrics use, by name: the weights it needs and what loads it."""

from collections.abc import Iterable
from typing import NamedTuple

from evalkit.metric_spec.metric_card import Loader, MetricCard
from evalkit.metrics import METRICS
from evalkit.metrics.presets import OTHER_NETS
from evalkit.set_metrics import SET_METRICS
from evalkit.weights.lookup import Source


class KnownModel(NamedTuple):
    """The weights of a model, None if it needs none, and its loader."""

    source: Source | None
    load: Loader


def known_models(cards: Iterable[MetricCard] = ()) -> dict[str, KnownModel]:
    """Return the models of evalkit's metrics, of these cards, of presets and of metrics of sets, each once."""
    models = {card.model: KnownModel(card.weights, card.load) for card in (*METRICS.values(), *cards)}
    models |= {source.name: KnownModel(source, load) for source, load in OTHER_NETS.values()}
    return models | {metric.weights.name: KnownModel(metric.weights, metric.load) for metric in SET_METRICS.values()}


def known_sources(cards: Iterable[MetricCard] = ()) -> dict[str, Source]:
    """Return the weights of all those models that need some, by the model's name."""
    return {name: model.source for name, model in known_models(cards).items() if model.source is not None}
