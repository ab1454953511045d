"""Mix-of-Show's baseline: the weighted average of LoRAs."""

from collections.abc import Sequence

from generation.lora_file import Factors
from generation.merge.layer import Layer
from generation.merge.method import merge_method
from generation.merge.methods.fedavg import fedavg


@merge_method(acts_on="weights", source="Gu et al. 2023, arXiv 2305.18292")
def mix_of_show(parts: Sequence[Factors], layer: Layer) -> Factors:
    """Average the LoRAs by their weights' shares, W0 + sum_j w_j Delta_j / sum w: what its authors call weight fusion.

    The paper's own answer to what this loses is `gradient_fusion`. Embeddings of new words are no part of a merge.
    """
    averaged: Factors = fedavg.function(parts, layer)
    return averaged
