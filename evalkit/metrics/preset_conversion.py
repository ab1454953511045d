"""Scores of one preset as another preset's, where the two differ in nothing but scale."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from evalkit.errors import UserError
from evalkit.metric_spec.cosine_convention import Convention
from evalkit.metric_spec.metric_card import REDUCTION
from evalkit.metric_spec.signature import preset_of, resigned
from evalkit.metrics import METRICS
from evalkit.metrics.presets import OTHER_NETS, PRESETS, check_preset
from evalkit.run.score_table import ImageScore, RunScore

Row = TypeVar("Row", ImageScore, RunScore)


def convert(rows: Sequence[Row], preset: str) -> list[Row]:
    """Return scores on the scale of a preset, in their order; their signatures state it.

    Raises:
        UserError: scores of two presets are mixed, a preset has no such metric, the presets differ in more than scale, or a
            score is 0 if one of them counts every negative cosine as 0.
    """
    check_preset(preset)
    origins: dict[str, str] = {}
    for row in rows:
        origin = preset_of(row.signature)
        if origins.setdefault(row.metric, origin) != origin:
            raise UserError(
                f"{row.metric}: scores of the presets {origins[row.metric]} and {origin} are mixed; "
                "convert those of one at a time"
            )
    ways = {metric: (_convention(metric, origin), _convention(metric, preset)) for metric, origin in origins.items()}
    for metric, origin in origins.items():
        reasons = list(_more_than_scale(metric, origin, preset))
        if reasons:
            raise UserError(
                f"{metric}: {origin} and {preset} differ in {' and '.join(reasons)}; score again with preset {preset}"
            )
    return [_converted(row, preset, *ways[row.metric]) for row in rows]


def _convention(metric: str, preset: str) -> Convention:
    """Return how a preset makes the scores of a metric."""
    conventions = PRESETS[check_preset(preset)]
    if metric not in conventions:
        raise UserError(f"{metric}: is not of the preset {preset}, which has {', '.join(conventions)}; leave it out")
    return conventions[metric]


def _more_than_scale(metric: str, origin: str, preset: str) -> Iterator[str]:
    """Yield what two presets of one metric differ in, besides factor and clamp."""
    one, other = _convention(metric, origin), _convention(metric, preset)
    if one.prefix != other.prefix:
        yield "the text"
    if one.first_reference != other.first_reference:
        yield "the references"
    if OTHER_NETS.get((origin, metric)) != OTHER_NETS.get((preset, metric)):
        yield "the net"


def _converted(row: Row, preset: str, one: Convention, other: Convention) -> Row:
    if one.clamped and other.clamped:
        value = row.value / one.factor * other.factor
    else:
        try:
            value = other.score(one.cosine(row.value))
        except ValueError as error:
            raise UserError(f"{row.metric}: a score can't be converted: {error}; score the images again") from error
    reduction = other.reduction(REDUCTION[METRICS[row.metric].needs])
    return replace(row, value=value, signature=resigned(row.signature, reduction, preset))
