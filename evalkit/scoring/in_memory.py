"""`evalkit.score`: one call of a scorer."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike

from evalkit.io.image_arrays import ValueRange
from evalkit.metric_spec.metric_card import MetricCard
from evalkit.metric_spec.signature import DEFAULT_PRESET
from evalkit.scoring.image_inputs import ImageInput, ImageInputs
from evalkit.scoring.image_scores import ImageScores
from evalkit.scoring.scorer import OnError, Scorer


def score_images(
    images: "ImageInputs | Iterable[ImageInput]",
    metrics: Sequence[str | MetricCard],
    *,
    prompts: str | Sequence[str] | None = None,
    references: "ImageInputs | Mapping[str, ImageInputs] | None" = None,
    value_range: ValueRange | None = None,
    preset: str = DEFAULT_PRESET,
    weights: Mapping[str, str | PathLike[str]] | None = None,
    device: str | None = None,
    batch_size: int = 32,
    on_error: OnError = "raise",
) -> ImageScores:
    """Score images with a temporary scorer; see `evalkit.scoring.scorer.Scorer` for the arguments and errors."""
    with Scorer(metrics, preset=preset, weights=weights, device=device, batch_size=batch_size) as scorer:
        return scorer(images, prompts=prompts, references=references, value_range=value_range, on_error=on_error)
