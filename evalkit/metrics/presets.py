"""Presets: the conventions under which other tools' numbers are made, by the name of the tool."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from evalkit.encoders.dino import DINO_S8, load_dino_s8
from evalkit.errors import unknown
from evalkit.metric_spec.cosine_convention import PLAIN, Convention
from evalkit.metric_spec.metric_card import Loader, MetricCard
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.weights.lookup import Source

DREAMBENCH = Convention(factor=100, first_reference=True)
# Per preset the metrics that its tool has; the others stay as they are by default, and their signatures state so.
PRESETS: Mapping[str, Mapping[str, Convention]] = MappingProxyType(
    {
        # Ruiz 2022: plain cosines, mean over all references
        DEFAULT_PRESET: {"clip_t": PLAIN, "clip_i": PLAIN, "dino": PLAIN, "dinov2": PLAIN},
        # Kumari 2023, customconcept101/evaluate.py: the text alignment is Hessel's without prefix, the rest plain
        "custom_diffusion": {"clip_t": Convention(factor=2.5, clamped=True), "clip_i": PLAIN, "dino": PLAIN},
        # Hessel 2021, clipscore.py
        "clipscore": {"clip_t": Convention(factor=2.5, clamped=True, prefix="A photo depicts ")},
        # functional/multimodal/clip_score.py, which clamps the mean over images and no image
        "torchmetrics": {"clip_t": Convention(factor=100)},
        # Peng 2024: one reference per image, DINO with patches of 8
        "dreambench_plus_plus": {
            "clip_t": Convention(factor=100), "clip_i": DREAMBENCH, "dino": DREAMBENCH, "dinov2": DREAMBENCH,
        },
    }
)  # fmt: skip
# Metrics that a preset's tool measures with another net.
OTHER_NETS: Mapping[tuple[str, str], tuple[Source, Loader]] = MappingProxyType(
    {("dreambench_plus_plus", "dino"): (DINO_S8, load_dino_s8)}
)


def check_preset(name: str) -> str:
    """Return the name of a preset; raise a UserError that names the known ones if it is unknown."""
    if not isinstance(name, str) or name not in PRESETS:
        raise unknown("no preset", name, PRESETS)
    return name


def with_preset(cards: Sequence[MetricCard], preset: str) -> list[MetricCard]:
    """Return the cards as a preset's tool measures; those it doesn't have as they are.

    Raises:
        UserError: the preset is unknown.
    """
    conventions = PRESETS[check_preset(preset)]
    return [_under(card, preset, conventions[card.name]) if card.name in conventions else card for card in cards]


def _under(card: MetricCard, preset: str, convention: Convention) -> MetricCard:
    weights, load = OTHER_NETS.get((preset, card.name), (card.weights, card.load))
    unit = card.unit if convention.factor == 1 else f"{convention.factor:g} x {card.unit}"
    limits = (convention.score(-1.0), convention.score(1.0))
    return replace(card, preset=preset, convention=convention, unit=unit, limits=limits, weights=weights, load=load)
