"""TIES: trim, elect a sign, average the LoRAs that agree."""

from collections.abc import Sequence

from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, agreeing_mean, keep_largest, merge_entries
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(acts_on="weights", source="Yadav et al. 2023, arXiv 2306.01708")
def ties(parts: Sequence[Factors], layer: Layer, *, density: Density = 0.5, space: Space = "dense") -> Factors | Tensor:
    """Keep each LoRA's largest entries, elect a sign per entry, and average the LoRAs that have it.

    `density` is the share kept; the paper uses 0.2, peft's guide 0.5 for LoRAs. The election is weighted by the LoRAs'
    weights. The weights also replace the paper's factor lambda: doubling all of them doubles the merge. A LoRA that is alone
    in a layer is trimmed without an election.
    """
    return merge_entries(parts, space, keep_largest(density), agreeing_mean)
