"""Evaluation of merged LoRA adapters: metrics whose recipe is part of every number.

Importing this package is light: PyTorch and the models are imported when images are scored.
"""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from evalkit.distribution import installed_version

if TYPE_CHECKING:
    from evalkit.metric_spec.metric_card import MetricCard
    from evalkit.scoring.image_inputs import ImageInput, ImageInputs
    from evalkit.scoring.image_scores import ImageScores
    from evalkit.scoring.pair_scorer import PairScores
    from evalkit.scoring.scorer import OnError, Scorer

__all__ = ["Scorer", "__version__", "compare", "list_metrics", "metric", "score"]

__version__ = installed_version()


def __getattr__(name: str) -> object:
    """Import the scorer when it is first used: importing evalkit itself stays light."""
    if name == "Scorer":
        from evalkit.scoring.scorer import Scorer

        return Scorer
    raise AttributeError(f"module 'evalkit' has no attribute {name!r}")


def list_metrics() -> list[str]:
    """Return the names of all metrics, including those of installed packages."""
    from evalkit.metrics.plugins import known_metrics

    return list(known_metrics())


def metric(name: str) -> "MetricCard":
    """Return the card of a metric: what it measures, its direction, unit, range, source, licence and inputs.

    Parameters
    ----------
    name
        The metric's name, such as `clip_t`, or `iqa:NAME` for a no-reference metric of pyiqa.

    Raises
    ------
    UserError
        No metric has this name; the message lists all names.
    """
    from evalkit.metrics.iqa import metrics_by_name
    from evalkit.metrics.plugins import known_metrics

    (card,) = metrics_by_name(known_metrics(), [name])
    return card


def score(
    images: "ImageInputs | Iterable[ImageInput]",
    metrics: "Sequence[str | MetricCard]",
    *,
    prompts: str | Sequence[str] | None = None,
    references: "ImageInputs | Mapping[str, ImageInputs] | None" = None,
    value_range: tuple[float, float] | None = None,
    preset: str = "dreambooth",
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    on_error: "OnError" = "raise",
) -> "ImageScores":
    """Return the scores of images: one row per image and metric, and per concept for metrics that compare with references.

    Parameters
    ----------
    images
        Paths, PIL images, uint8 arrays (H x W x 3) or uint8 tensors (3 x H x W), or a batch (N x H x W x 3, N x 3 x H x W).
    metrics
        Names from `list_metrics`, or metric cards of your own.
    prompts
        One prompt for all images, or one per image. Metrics that compare with the prompt need it.
    references
        Reference images, or a mapping from concept names to reference images. Metrics that compare with references need them.
    value_range
        Values of black and white, such as `(0, 1)`, if the images are floating-point arrays; other arrays need none.
    preset
        The scoring convention, such as `dreambooth` or `custom_diffusion`; it is part of the signature.
    weights
        Weight files by model name, if they should not come from the hub.
    device
        `cpu`, `cuda`, `cuda:1`, `mps`; by default a GPU if there is one.
    batch_size
        Most images per forward pass. It does not change the scores.
    on_error
        `raise` an error that holds the scores of all other images, or `skip` images that fail.

    Returns
    -------
    list of ImageScore
        `image`, `metric`, `concept`, `value`, `direction` and `signature` of each score. Its `problems` name failed images.

    Raises
    ------
    UserError
        An argument is wrong, an image cannot be read, or a metric is unknown.
    MissingWeightsError
        The weights of a metric are unavailable; the message states how to get them.
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
        on_error=on_error,
    )


def compare(
    left: "str | PathLike[str] | ImageInputs",
    right: "str | PathLike[str] | ImageInputs",
    metrics: "Sequence[str | MetricCard]",
    *,
    value_range: tuple[float, float] | None = None,
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    on_error: "OnError" = "raise",
) -> "PairScores":
    """Return the scores of image pairs: two folders matched by file name without suffix, or two lists matched by position.

    Parameters
    ----------
    left
        A folder, or a list of images as in `score`.
    right
        Another folder, or another list.
    metrics
        `lpips`, `ssim`, `psnr`, `dino`, `clip`, or metric cards that compare two images.
    value_range
        Values of black and white, such as `(0, 1)`, if the images are floating-point arrays; other arrays need none.
    weights
        Weight files by model name, if they should not come from the hub.
    device
        `cpu`, `cuda`, `cuda:1`, `mps`; by default a GPU if there is one.
    batch_size
        Most images per forward pass. It does not change the scores.
    on_error
        `raise` an error that holds the scores of all other pairs, or `skip` pairs that fail.

    Returns
    -------
    PairScores
        `image`, `other`, `metric`, `value`, `direction` and `signature` of each score; `unmatched`, `problems` and `notes`.

    Raises
    ------
    UserError
        An argument is wrong, no name is in both folders, an image cannot be read, or a metric does not compare two images.
    MissingWeightsError
        The weights of a metric are unavailable; the message states how to get them.
    """
    from evalkit.scoring.pair_scorer import compare_images

    return compare_images(
        left,
        right,
        metrics,
        value_range=value_range,
        weights=weights,
        device=device,
        batch_size=batch_size,
        on_error=on_error,
    )
