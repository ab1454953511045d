"""Model Breadcrumbs: the sum of every LoRA's entries without the smallest and the largest."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, keep_middle, merge_entries, total
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Davari and Belilovsky 2024, arXiv 2312.06795",
    difference="mergekit's method at equal weights (0.00 apart).",
)
def breadcrumbs(
    parts: Sequence[Factors],
    layer: Layer,
    *,
    density: Density = 0.9,
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.01,
    space: Space = "dense",
) -> Factors | Tensor:
    """Drop each LoRA's `gamma` largest and its smallest absolute entries, keep the share `density`, and add the rest.

    Masks are computed per layer and LoRA, as in the paper; nothing is rescaled. The defaults are mergekit's. A LoRA that is
    alone in a layer is also masked.
    """
    return merge_entries(parts, space, keep_middle(density, gamma), total)
