"""Iso-CTS: common and task-specific directions with one common singular value."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.lowrank import flat, nearest_orthonormal, shaped, side_by_side, thin_svd
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Marczak et al. 2025, arXiv 2502.04959",
    difference=(
        "The authors' code counts directions over the layer's whole width, most of which are arbitrary for LoRAs: 3.11 "
        "apart relative to theirs, at rank 32 of 320."
    ),
)
def iso_cts(parts: Sequence[Factors], layer: Layer, *, common: Annotated[float, Field(gt=0, le=1)] = 0.8) -> Factors:
    """Replace the weakest directions of the sum by each LoRA's own ones, and give all the mean singular value.

    Of the R directions of the sum, the first `common` R are kept. Every LoRA, projected out of them, adds its strongest
    (1 - common) R / k. Directions are made orthonormal together (Procrustes). 0.8 is the paper's; as in `iso_c`, R counts
    nonzero singular values only. A LoRA that is alone in a layer is also flattened.
    """
    u, s, v = thin_svd(flat(side_by_side(parts)))
    shared_rank = max(1, round(common * len(s)))
    own_rank = (len(s) - shared_rank) // len(parts)
    triples = [(u[:, :shared_rank], s[:shared_rank], v[:, :shared_rank])]
    for part in map(flat, parts) if own_rank else ():
        own = thin_svd(Factors(part.down, part.up - u[:, :shared_rank] @ (u[:, :shared_rank].T @ part.up)))
        triples.append((own[0][:, :own_rank], own[1][:own_rank], own[2][:, :own_rank]))
    left, values, right = (torch.cat([triple[which] for triple in triples], dim=-1) for which in range(3))
    scale = values.mean() if len(values) else 1.0
    return shaped(scale * nearest_orthonormal(right).T, nearest_orthonormal(left), parts[0])
