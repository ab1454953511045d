"""TSV-M: orthogonalise the LoRAs' strongest singular directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Space
from generation.merge.lowrank import NEGLIGIBLE, flat, nearest_orthonormal, shaped, thin_svd
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.svd import Rank


@merge_method(
    acts_on="weights",
    source="Gargiulo et al. 2025, arXiv 2412.00081",
    difference=(
        "The authors decompose dense changes, directions of singular value 0 included: 0.61 from the default, which "
        '`space = "dense"` follows. Their factor alpha is tuned on a validation set.'
    ),
)
def tsv(parts: Sequence[Factors], layer: Layer, *, rank: Rank | None = None, space: Space = "core") -> Factors:
    """Decompose each LoRA, keep its first singular vectors, and make those of all LoRAs orthonormal together.

    Without `rank` each of the layer's k LoRAs keeps min(outputs, inputs) / k directions as in the paper, which rarely
    truncates a LoRA. The nearest orthonormal vectors replace the stacked ones (Procrustes); singular values are unchanged. The
    paper's factor alpha is 1. A LoRA that is alone in a layer is unchanged; the same LoRA twice counts once.

    `space = "dense"` decomposes whole weights as the authors' code does. A LoRA then also contributes directions of singular
    value 0, which take part in the orthonormalisation and weaken the others: 0.61 from the default (`python -m
    benchmarks.method_variants`). Which directions these are is up to the linear algebra library.
    """
    triples = [thin_svd(flat(part)) if space == "core" else _whole_svd(flat(part)) for part in parts]
    count = rank or max(1, min(triples[0][0].shape[0], triples[0][2].shape[0]) // len(parts))
    # U and V have directions as columns, S as entries: the last dimension each
    u, s, v = (torch.cat([triple[which][..., :count] for triple in triples], dim=-1) for which in range(3))
    acting = s > 0
    down, up = s[acting, None] * nearest_orthonormal(v).T[acting], nearest_orthonormal(u)[:, acting]
    return shaped(down, up, parts[0])


def _whole_svd(part: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, S and V of the dense change, with the directions of singular value 0; values that are rounding become 0."""
    u, s, vt = torch.linalg.svd(part.up @ part.down, full_matrices=False)
    return u, torch.where(s > NEGLIGIBLE * s[0], s, 0.0), vt.T
