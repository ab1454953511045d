"""Recomputation of features that a damaged cache file does not return."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from evalkit.plural import plural
from evalkit.run.feature_cache import FeatureCache
from evalkit.scoring.image_requests import ScoringProblem

Result = TypeVar("Result")
Row = TypeVar("Row")
ATTEMPTS = 3


class FeaturesLostError(Exception):
    """Features that were stored are not returned, so rows would be missing without a reason."""


def with_renewed_cache(store: FeatureCache, work: Callable[[bool], Result]) -> Result:
    """Return what `work(last)` returns; if features get lost, throw the cache away and repeat it, at most twice.

    `work` raises a FeaturesLostError unless it is told that this is the last attempt.
    """
    for _ in range(ATTEMPTS - 1):
        renewals = store.renewals
        try:
            return work(False)
        except FeaturesLostError as error:
            if store.renewals == renewals:
                store.renew(str(error))
    return work(True)


def check_complete(
    lost: Callable[[], Sequence[tuple[str, Mapping[str, str]]]], problems: list[ScoringProblem], *, last: bool
) -> Iterator[Row]:
    """Yield nothing, after all rows of a file: the file is written only if no features are lost.

    `lost` returns models with the images (sha256 to name) whose features are missing without a reason. In the last attempt
    each is a problem.

    Raises:
        FeaturesLostError: some are, and this is not the last attempt.
    """
    for model, images in lost():
        if images and not last:
            raise FeaturesLostError(f"it does not return {plural(len(images), 'feature')} of {model}")
        problems.extend(
            ScoringProblem(name, key, model, f"{name}: the cache does not return its features of {model}; remove the cache")
            for key, name in images.items()
        )
    yield from ()
