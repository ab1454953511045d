"""Mix-of-Show's baseline: the weighted average of LoRAs."""

from collections.abc import Sequence

from generation.lora.factors import Factors
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.fedavg import fedavg


@merge_method(
    acts_on="weights",
    source="Gu et al. 2023, arXiv 2305.18292",
    difference=(
        "The authors' code averages in the same way (0.00 apart), but its files are scaled by alpha instead of alpha / rank."
    ),
)
def mix_of_show(parts: Sequence[Factors], layer: Layer) -> Factors:
    """Average the LoRAs by normalised weights, W0 + sum_j w_j Delta_j / sum w, called weight fusion by the authors.

    The paper's improvement on this baseline is `gradient_fusion`. Textual-inversion embeddings are not part of a merge.
    """
    averaged: Factors = fedavg.function(parts, layer)
    return averaged
