"""SCE: select entries of high variance, weight LoRAs by their energy, erase minority signs."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import Density, Space, entries, merge_all_entries
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


@merge_method(
    acts_on="weights",
    source="Wan et al. 2024, arXiv 2408.07990",
    difference="mergekit's method at density 1 (0.00 apart).",
)
def sce(parts: Sequence[Factors], layer: Layer, *, density: Density = 1.0, space: Space = "dense") -> Factors | Tensor:
    """Average the LoRAs, weighted by their squared norms, over those whose sign is that of the sum.

    Of all entries the share `density` with the highest variance over the LoRAs is kept first; the default, all of them, is
    mergekit's. Weights are computed per layer, as there. A LoRA that is alone in a layer is unchanged at density 1.
    """

    def combine(blocks: Iterable[Tensor]) -> Tensor:
        stack = torch.stack(list(blocks))
        if density < 1 and len(stack) > 1:
            variance = stack.var(0, unbiased=False).flatten()
            count = int(density * int(variance.count_nonzero()))
            chosen = torch.zeros_like(variance).index_fill_(0, variance.topk(count).indices, 1.0)
            stack = stack * chosen.view(stack.shape[1:])
        energy = stack.square().mean((1, 2))
        weights = energy / energy.sum() if float(energy.sum()) > 0 else torch.full_like(energy, 1 / len(energy))
        majority = torch.where(stack.sum(0) < 0, -1.0, 1.0)
        share = weights[:, None, None] * (stack.sign() == majority)
        return (share * stack).sum(0) / share.sum(0).clamp(min=1e-6)

    return merge_all_entries(parts, space, lambda flats: combine(entries(flats)))
