"""Iso-C: the sum of the LoRAs with one common singular value."""

from collections.abc import Sequence

from generation.lora.factors import Factors
from generation.merge.lowrank import flat, shaped, side_by_side, thin_svd
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Marczak et al. 2025, arXiv 2502.04959",
    difference=(
        "The authors' code takes the mean over all singular values of a layer, zeros included, and gives it to directions "
        "that are arbitrary for LoRAs: 3.00 apart relative to theirs, at rank 32 of 320."
    ),
)
def iso_c(parts: Sequence[Factors], layer: Layer) -> Factors:
    """Decompose the sum of the LoRAs, U S V^T, and return mean(S) U V^T: all directions get the mean singular value.

    The paper merges full fine-tunes, whose changes have full rank. The sum of LoRAs has the sum of their ranks, so the mean is
    over its nonzero singular values only; the other directions of a layer are undefined. The paper's factor alpha is 1. A LoRA
    that is alone in a layer is also flattened.
    """
    u, s, v = thin_svd(flat(side_by_side(parts)))
    return shaped(s.mean() * v.T if len(s) else v.T, u, parts[0])
