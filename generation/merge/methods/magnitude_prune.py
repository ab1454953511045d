"""Magnitude pruning: the sum of every LoRA's largest entries."""

from collections.abc import Sequence

from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, Trim, check_trim, merge_entries, total, trimmed
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="the trimming step of Yadav et al. 2023, arXiv 2306.01708; as peft names it",
    check=check_trim,
    difference=(
        "peft prunes A and B separately and adds the factors, which contains products that no LoRA has: 0.77 apart at "
        "density 0.5."
    ),
)
def magnitude_prune(
    parts: Sequence[Factors], layer: Layer, *, density: Density = 0.5, space: Space = "dense", trim: Trim = "layer"
) -> Factors | Tensor:
    """Keep each LoRA's largest absolute entries and add them.

    `density` is the share kept; the default is ours. `trim = "model"` compares entries over each LoRA's whole model, 0.50 from
    the default at density 0.2 on random LoRAs (`python -m benchmarks.method_variants`). A LoRA that is alone in a layer is
    also trimmed.
    """
    return merge_entries(parts, space, trimmed(parts, layer, density, space, trim), total)
