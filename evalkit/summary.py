"""Means for a first look at scores; claims are made by analysis."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from evalkit.scores import ScoreRow
from evalkit.scoring import Score


@dataclass(frozen=True)
class Mean:
    """A metric's mean over the images of an arm, or of two arms that it compares; `error` is None for a single image.

    `arm` is empty for pictures that belong to no run.
    """

    metric: str
    arm: str
    signature: str
    mean: float
    error: float | None
    n: int


def summarise(rows: Iterable[ScoreRow | Score]) -> list[Mean]:
    """Return the mean and its standard error over images per metric, recipe and arm, in the order they first appear.

    An image's scores against several concepts are averaged first, so that it counts once.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, int], list[float]]] = {}
    for row in rows:
        arm, image = _place(row)
        groups.setdefault((row.metric, arm, row.signature), {}).setdefault(image, []).append(row.value)
    means = []
    for (metric, arm, signature), images in groups.items():
        values = [statistics.fmean(scores) for scores in images.values()]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        means.append(Mean(metric, arm, signature, statistics.fmean(values), error, len(values)))
    order = list(dict.fromkeys(mean.metric for mean in means))
    return sorted(means, key=lambda mean: order.index(mean.metric))


def _place(row: ScoreRow | Score) -> tuple[str, tuple[str, int]]:
    """Return the arm a row belongs to, if any, and what names its image there."""
    if isinstance(row, Score):
        return "", (row.image, 0)
    return f"{row.arm} ~ {row.other_arm}" if row.other_arm else row.arm, (row.case, row.seed)
