"""TSV-M: orthogonalise the LoRAs' strongest singular directions."""

from collections.abc import Sequence

import torch

from generation.lora.factors import Factors
from generation.merge.lowrank import flat, nearest_orthonormal, shaped, thin_svd
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.svd import Rank


@merge_method(acts_on="weights", source="Gargiulo et al. 2025, arXiv 2412.00081")
def tsv(parts: Sequence[Factors], layer: Layer, *, rank: Rank | None = None) -> Factors:
    """Decompose each LoRA, keep its first singular vectors, and make those of all LoRAs orthonormal together.

    Without `rank` each of the layer's k LoRAs keeps min(outputs, inputs) / k directions as in the paper, which rarely
    truncates a LoRA. The nearest orthonormal vectors replace the stacked ones (Procrustes); singular values are unchanged. The
    paper's factor alpha is 1. A LoRA that is alone in a layer is unchanged; the same LoRA twice counts once.
    """
    triples = [thin_svd(flat(part)) for part in parts]
    count = rank or max(1, min(triples[0][0].shape[0], triples[0][2].shape[0]) // len(parts))
    # U and V have directions as columns, S as entries: the last dimension each
    u, s, v = (torch.cat([triple[which][..., :count] for triple in triples], dim=-1) for which in range(3))
    return shaped(s[:, None] * nearest_orthonormal(v).T, nearest_orthonormal(u), parts[0])
