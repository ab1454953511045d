"""Merges that treat every entry of a layer's change by itself: prune each LoRA's entries, then combine them across LoRAs.

Never on the two factors separately, as peft does: entries of A and B mean nothing by themselves, and pruned factors multiply to
cross terms that no LoRA holds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from generation.lora import Factors
from generation.merge.lowrank import flat, shaped, span

Density = Annotated[float, Field(gt=0, le=1)]
Space = Literal["dense", "core"]
# Sees all of one LoRA's entries, in blocks of rows; returns what to do with such a block.
Prune = Callable[[Iterable[Tensor]], Callable[[Tensor], Tensor]]
# Turns entries of all LoRAs [LoRAs, rows, columns] into merged ones [rows, columns].
Combine = Callable[[Tensor], Tensor]
# Entries of all LoRAs together that a block may hold: 64 MiB in float32.
BLOCK = 1 << 24


def merge_entries(parts: Sequence[Factors], space: Space, prune: Prune, combine: Combine) -> Factors | Tensor:
    """Return the merge of the LoRAs' entries, in the layer's own weight (`dense`) or in their common core space (`core`).

    The core space (Panariello et al. 2025, arXiv 2509.17786) has the left singular vectors U of the stacked `up` and the right
    ones V of the stacked `down` as bases; U^T Delta_j V is at most R x R, R the sum of ranks, and loses nothing. What is linear
    in the entries gives the same in both spaces; pruning and voting do not.
    """
    if space == "core":
        matrices = [flat(part) for part in parts]
        left = span(torch.cat([part.up for part in matrices], dim=1))
        right = span(torch.cat([part.down for part in matrices]).T)
        # the bases are exact; entries need no more digits than those of a dense change have
        inner = [Factors((part.down @ right).float(), (left.T @ part.up).float()) for part in matrices]
        return shaped(combined(inner, prune, combine) @ right.T.float(), left, parts[0])
    outer = [Factors(part.down.flatten(1), part.up) for part in parts]
    return combined(outer, prune, combine).view(outer[0].up.shape[0], *parts[0].down.shape[1:])


def combined(parts: Sequence[Factors], prune: Prune, combine: Combine) -> Tensor:
    """Return the merged entries of flat factors, [outputs, inputs], made block by block of rows."""
    height = max(1, BLOCK // max(1, len(parts) * parts[0].down.shape[1]))
    pruned = [prune(_blocks(part, height)) for part in parts]
    rows = zip(*(_blocks(part, height) for part in parts), strict=True)
    return torch.cat([combine(torch.stack([p(b) for p, b in zip(pruned, blocks, strict=True)])) for blocks in rows])


def keep_largest(density: float) -> Prune:
    """Keep the share `density` of a LoRA's entries that are largest by size, and those that equal the least of them."""

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        if density == 1:
            return _all
        sizes = torch.cat([block.abs().flatten() for block in blocks])
        # a core space has no entries where all factors are zero
        if not len(sizes):
            return _all
        kept = max(1, round(density * sizes.numel()))
        bound = sizes.kthvalue(sizes.numel() - kept + 1).values
        return lambda block: block * (block.abs() >= bound)

    return prune


def keep_at_random(density: float, rng: Generator) -> Prune:
    """Keep each entry with probability `density`, divided by it, so that the mean over draws is the entry itself."""

    def thin(block: Tensor) -> Tensor:
        kept = torch.rand(block.shape, generator=rng).to(block.device) < density
        return block * kept / density

    return lambda blocks: _all if density == 1 else thin


def total(entries: Tensor) -> Tensor:
    """Return the sum over LoRAs."""
    return entries.sum(0)


def agreeing_mean(entries: Tensor) -> Tensor:
    """Return, for each entry, the mean of the LoRAs' values whose sign is that of their sum; a sum of zero counts as plus.

    Sign election and disjoint mean of TIES (Yadav et al. 2023, arXiv 2306.01708): zeros have no vote and no part.
    """
    elected = torch.where(entries.sum(0) < 0, -1.0, 1.0).to(entries.dtype)
    agree = entries * elected > 0
    return (entries * agree).sum(0) / agree.sum(0).clamp(min=1)


def _blocks(part: Factors, height: int) -> Iterator[Tensor]:
    return (rows @ part.down for rows in torch.split(part.up, height))


def _all(block: Tensor) -> Tensor:
    return block
