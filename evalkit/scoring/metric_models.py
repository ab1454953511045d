"""Selection of metrics by name or card, and loading of their models, each once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from evalkit.encoders.concept_crops import ConceptCrops
from evalkit.encoders.device import choose_device
from evalkit.encoders.torch_state import fixed_state
from evalkit.errors import MissingWeightsError, UserError
from evalkit.metric_spec.metric_card import Loadable, MetricCard, Model
from evalkit.metrics.iqa import metrics_by_name
from evalkit.metrics.models import known_sources
from evalkit.metrics.plugins import known_metrics
from evalkit.scoring.arguments import iterable
from evalkit.weights.lookup import NO_WEIGHTS, check_names, find


def select_metrics(metrics: Sequence[str | MetricCard]) -> list[MetricCard]:
    """Return the metric cards for names and cards, each once.

    Raises:
        UserError: the list is empty, an entry is neither a name nor a card, a name is unknown, or two cards share a name.
    """
    if isinstance(metrics, (str, MetricCard)):
        name = metrics if isinstance(metrics, str) else metrics.name
        raise UserError(f"metrics: is a single metric; give a list, [{name!r}]")
    entries = list(iterable("metrics", metrics, "a list of names, such as ['piqe']"))
    if not entries:
        raise UserError("metrics: is empty; evalkit.list_metrics() lists the names")
    for index, entry in enumerate(entries):
        if not isinstance(entry, (str, MetricCard)):
            raise UserError(
                f"metrics[{index}]: is of type {type(entry).__name__}, not a metric; give a name, or a function decorated with "
                "@evalkit.metric_spec.metric_card.metric"
            )
    names = [entry for entry in entries if isinstance(entry, str)]
    cards = list(dict.fromkeys(entry for entry in entries if isinstance(entry, MetricCard)))
    chosen = metrics_by_name(known_metrics(), names)
    by_name = {card.name: card for card in chosen}
    for card in cards:
        if by_name.setdefault(card.name, card) is not card:
            raise UserError(f"metrics: two different metrics are called {card.name!r}; rename one of them")
    return list(by_name.values())


def load_models(
    cards: Sequence[Loadable], given: Mapping[str, Path], device: str | None
) -> tuple[dict[str, Model], dict[str, str]]:
    """Load the models of metrics.

    Returns:
        The models by name, each loaded once; and for each model without weights, a line that explains how to get them.

    Raises:
        UserError: weights are given for an unknown model, or the given files belong to another model.
    """

    own = {card.weights.name: card.weights for card in cards if card.weights}
    check_names(given, {**known_sources(known_metrics().values()), **own}.values())
    models: dict[str, Model] = {}
    missing: dict[str, str] = {}
    chosen = choose_device(device)
    for card in cards:
        if card.model in models or card.model in missing:
            continue
        try:
            weights = find(card.weights, given) if card.weights else NO_WEIGHTS
            with fixed_state():
                model = card.load(weights, chosen)
                crops = getattr(card, "crops", None)
                if crops is not None and isinstance(model, ConceptCrops):
                    model = model.with_encoder(crops.load(find(crops.source, given), chosen))
                models[card.model] = model
        except MissingWeightsError as error:
            missing[card.model] = str(error)
    return models, missing
