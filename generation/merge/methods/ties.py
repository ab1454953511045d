"""TIES: trim, elect a sign, average the LoRAs that agree."""

from collections.abc import Sequence

from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import (
    Density,
    Mean,
    Space,
    Trim,
    Vote,
    check_trim,
    disjoint_mean,
    merge_entries,
    trimmed,
)
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Yadav et al. 2023, arXiv 2306.01708",
    check=check_trim,
    difference=(
        "The authors trim each LoRA over its whole model: 0.50 from the default at density 0.2, 0.00 with `trim = "
        '"model"`. Their weights scale the result and have no part in the election.'
    ),
)
def ties(
    parts: Sequence[Factors],
    layer: Layer,
    *,
    density: Density = 0.5,
    space: Space = "dense",
    trim: Trim = "layer",
    vote: Vote = "weighted",
    mean: Mean = "count",
) -> Factors | Tensor:
    """Keep each LoRA's largest entries, elect a sign per entry, and average the LoRAs that have it.

    `density` is the share kept; the paper uses 0.2, peft's guide 0.5 for LoRAs. The authors trim each LoRA over its whole
    model (`trim = "model"`, 0.50 from the default at density 0.2); the default trims per layer, as peft and mergekit do. The
    election is weighted by the LoRAs' weights, and the weights replace the paper's factor lambda: doubling all of them doubles
    the merge. peft counts votes equally (`vote = "equal"`, 0.22 from the default at weights 0.5 and 1). mergekit divides by
    the weights of those that agree (`mean = "weights"`, 0.28). At weights of 1 votes and means agree. `python -m
    benchmarks.method_variants` prints these relative distances on random LoRAs. A LoRA that is alone in a layer is trimmed
    without an election.
    """
    prune = trimmed(parts, layer, density, space, trim)
    return merge_entries(parts, space, prune, disjoint_mean(layer.part_weights, vote, mean))
