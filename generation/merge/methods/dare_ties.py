"""DARE with the sign election of TIES."""

from collections.abc import Sequence

from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, agreeing_mean, keep_at_random, merge_entries
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Yu et al. 2024, arXiv 2311.03099, with Yadav et al. 2023, arXiv 2306.01708",
    difference=(
        "mergekit's election and mean agree at equal weights (0.00 apart on the same selection of entries); at unequal "
        "weights it divides by the sum of weights."
    ),
)
def dare_ties(parts: Sequence[Factors], layer: Layer, *, density: Density = 0.5, space: Space = "dense") -> Factors | Tensor:
    """Drop each LoRA's entries at random, divide the rest by the share kept, then elect signs and average as TIES does.

    `density` is the share kept; the default is ours. A LoRA that is alone in a layer is thinned out without an election.
    """
    return merge_entries(parts, space, keep_at_random(density, layer.generator()), agreeing_mean)
