"""DARE: drop entries at random, rescale, add up."""

from collections.abc import Sequence

from torch import Tensor

from generation.lora_file import Factors
from generation.merge.elementwise import Density, Space, keep_at_random, merge_entries, total
from generation.merge.layer import Layer
from generation.merge.method import merge_method


@merge_method(acts_on="weights", source="Yu et al. 2024, arXiv 2311.03099")
def dare_linear(parts: Sequence[Factors], layer: Layer, *, density: Density = 0.5, space: Space = "dense") -> Factors | Tensor:
    """Drop each LoRA's entries at random, divide the rest by the share kept, and add up; right on average.

    `density` is the share kept, 1 - p in the paper, which goes down to 0.1; the default is ours. A LoRA that is alone in a
    layer is thinned out too.
    """
    return merge_entries(parts, space, keep_at_random(density, layer.generator()), total)
