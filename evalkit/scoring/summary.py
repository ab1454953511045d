"""Means for a first look at scores; claims are made by analysis."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from evalkit.run.score_table import ImageScore, RunScore


@dataclass(frozen=True)
class MetricMean:
    """A metric's mean over the images of an arm, or of two arms that it compares; `error` is None for a single image.

    `arm` is empty for images that belong to no run. Of images with scores against several concepts, `least` tells whether the
    least of these counts for an image, or their mean: a merge that keeps one concept and loses another has a fair mean.
    """

    metric: str
    arm: str
    signature: str
    least: bool
    mean: float
    error: float | None
    n: int


class _RunningMean:
    """A running mean and sum of squared deviations (Welford 1962), over images that come one by one."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        before = value - self.mean
        self.mean += before / self.n
        self.squares += before * (value - self.mean)

    @property
    def error(self) -> float | None:
        """Return the standard error of the mean; None for a single image."""
        return (self.squares / (self.n - 1) / self.n) ** 0.5 if self.n > 1 else None


def summarise(rows: Iterable[RunScore | ImageScore]) -> list[MetricMean]:
    """Return the mean and its standard error over images per metric, recipe and arm, in the order they first appear.

    An image's scores against several concepts are averaged first, so that it counts once; the least of them follow. Rows of one
    metric and case (or one metric and image, without a run) are adjacent, as they are written; no more than those are held.
    """
    groups: dict[tuple[str, bool, str, str], _RunningMean] = {}
    for (metric, signature, _), part in groupby(rows, key=_together):
        images: dict[tuple[str, str, int], list[float]] = {}
        for row in part:
            images.setdefault(_place(row), []).append(row.value)
        for (arm, *_), scores in images.items():
            groups.setdefault((metric, False, arm, signature), _RunningMean()).add(statistics.fmean(scores))
            if len(scores) > 1:
                groups.setdefault((metric, True, arm, signature), _RunningMean()).add(min(scores))
    means = [
        MetricMean(metric, arm, signature, least, spread.mean, spread.error, spread.n)
        for (metric, least, arm, signature), spread in groups.items()
    ]
    order = list(dict.fromkeys(mean.metric for mean in means))
    return sorted(means, key=lambda mean: (order.index(mean.metric), mean.least))


def _together(row: RunScore | ImageScore) -> tuple[str, str, str]:
    """Return what adjacent rows have in common."""
    return row.metric, row.signature, row.image if isinstance(row, ImageScore) else row.case


def _place(row: RunScore | ImageScore) -> tuple[str, str, int]:
    """Return the arm a row belongs to, if any, and what names its image there."""
    if isinstance(row, ImageScore):
        return "", row.image, 0
    return f"{row.arm} ~ {row.other_arm}" if row.other_arm else row.arm, row.case, row.seed
