"""Means for a first look at a run's scores; claims are made by analysis."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from evalkit.scores import ScoreRow


@dataclass(frozen=True)
class Mean:
    """A metric's mean over the images of an arm, or of two arms that it compares; `error` is None for a single image."""

    metric: str
    arm: str
    signature: str
    mean: float
    error: float | None
    n: int


def summarise(rows: Iterable[ScoreRow]) -> list[Mean]:
    """Return the mean and its standard error over images per metric, recipe and arm, in the order they first appear.

    An image's scores against several concepts are averaged first, so that it counts once.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, int], list[float]]] = {}
    for row in rows:
        arm = f"{row.arm} ~ {row.other_arm}" if row.other_arm else row.arm
        group = groups.setdefault((row.metric, arm, row.signature), {})
        group.setdefault((row.case, row.seed), []).append(row.value)
    means = []
    for (metric, arm, signature), images in groups.items():
        values = [statistics.fmean(scores) for scores in images.values()]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        means.append(Mean(metric, arm, signature, statistics.fmean(values), error, len(values)))
    order = list(dict.fromkeys(mean.metric for mean in means))
    return sorted(means, key=lambda mean: order.index(mean.metric))
