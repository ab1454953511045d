"""DARE with a sum: drop entries at random, rescale, add."""

from collections.abc import Sequence

from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, keep_at_random, merge_entries, total
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Yu et al. 2024, arXiv 2311.03099",
    difference=(
        "The authors' code drops entries of changes of weights, as here. peft drops entries of A and B separately: its "
        "squared deviation from the sum is 2.93 times as large at density 0.5."
    ),
)
def dare_linear(parts: Sequence[Factors], layer: Layer, *, density: Density = 0.5, space: Space = "dense") -> Factors | Tensor:
    """Drop each LoRA's entries at random, divide the rest by the share kept, and add; the expectation is the sum.

    `density` is the share kept, 1 - p in the paper, which goes down to 0.1. The default 0.5 is ours. A LoRA that is alone in a
    layer is also thinned out.
    """
    return merge_entries(parts, space, keep_at_random(density, layer.generator()), total)
