"""DELLA: drop entries at random, the smaller the more often, then elect signs as TIES does."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, agreeing_mean, keep_by_rank, merge_entries, total
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


def check_window(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError if keep probabilities would leave [0, 1]."""
    if not settings.window < settings.density <= 1 - settings.window:
        raise ValueError(
            f"density = {settings.density:g} and window = {settings.window:g}: probabilities density +- window leave (0, 1]; "
            "give a smaller window"
        )


@merge_method(
    acts_on="weights",
    source="Deep et al. 2024, arXiv 2406.11617",
    check=check_window,
    difference=(
        "mergekit's MagPrune has the same probabilities by rank in a row; the shares kept agree (0.00 apart). It elects "
        "signs by weights and divides by their sum."
    ),
)
def della(
    parts: Sequence[Factors],
    layer: Layer,
    *,
    density: Density = 0.5,
    window: Annotated[float, Field(ge=0, lt=0.5)] = 0.15,
    combine: Literal["ties", "sum"] = "ties",
    space: Space = "dense",
) -> Factors | Tensor:
    """Keep each entry with a probability that grows with its rank in its row, divide it by that, and merge as TIES does.

    Probabilities grow linearly from density - window for the smallest entry of a row to density + window for the largest
    (MagPrune). With `combine = "sum"` entries are added instead. The default window is mergekit's. A LoRA that is alone in a
    layer is thinned out without an election.
    """
    prune = keep_by_rank(density, window, layer.generator())
    return merge_entries(parts, space, prune, agreeing_mean if combine == "ties" else total)
