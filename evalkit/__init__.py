"""Evaluate merged LoRA adapters: metrics whose recipe travels with every number.

Importing this is light: PyTorch and the models come when something is scored.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from evalkit.distribution import installed_version

if TYPE_CHECKING:
    from evalkit.metric_spec.metric_card import MetricCard
    from evalkit.run.score_table import ImageScore
    from evalkit.scoring.image_inputs import ImageInputs

__all__ = ["__version__", "list_metrics", "metric", "score"]

__version__ = installed_version()


def list_metrics() -> list[str]:
    """Return the names of all metrics, those that installed packages add included."""
    from evalkit.metrics.plugins import known_metrics

    return list(known_metrics())


def metric(name: str) -> "MetricCard":
    """Return the card of a metric: what it measures, its direction, unit, range, source, licence and needs.

    Raises:
        UserError: there is none of that name; the message lists those there are.
    """
    from evalkit.metrics.iqa import metrics_by_name
    from evalkit.metrics.plugins import known_metrics

    (card,) = metrics_by_name(known_metrics(), [name])
    return card


def score(
    images: "ImageInputs",
    metrics: "Sequence[str | MetricCard]",
    *,
    prompts: str | Sequence[str] | None = None,
    references: "ImageInputs | Mapping[str, ImageInputs] | None" = None,
    value_range: tuple[float, float] | None = None,
    preset: str = "dreambooth",
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
) -> "list[ImageScore]":
    """Return the scores of images: one row per image and metric, and per concept where it compares with references.

    See `evalkit.scoring.in_memory.score_images`, which does it.
    """
    from evalkit.scoring.in_memory import score_images

    return score_images(
        images,
        metrics,
        prompts=prompts,
        references=references,
        value_range=value_range,
        preset=preset,
        weights=weights,
        device=device,
        batch_size=batch_size,
    )
