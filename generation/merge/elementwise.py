"""Merges that treat every entry of a layer's change by itself: prune each LoRA's entries, then combine them across LoRAs.

Never on the two factors separately, as peft does: entries of A and B mean nothing by themselves, and pruned factors multiply to
cross terms that no LoRA holds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from generation.lora_file import Factors
from generation.merge.lowrank import axes, shaped

Density = Annotated[float, Field(gt=0, le=1)]
Space = Literal["dense", "core"]
# Sees one LoRA's entries as blocks of rows; returns what to do, in place, with such a block.
Prune = Callable[[Iterable[Tensor]], Callable[[Tensor], Tensor]]
# Turns a block of each LoRA's entries [rows, columns] into the merged one.
Combine = Callable[[Iterable[Tensor]], Tensor]
# Entries of one LoRA that a block holds on the CPU, so that what is done to it stays in a core's cache, and elsewhere.
BLOCK, LARGE_BLOCK = 1 << 18, 1 << 24


def merge_entries(parts: Sequence[Factors], space: Space, prune: Prune, combine: Combine) -> Factors | Tensor:
    """Return the merge of the LoRAs' entries, in the layer's own weight (`dense`) or in their common core space (`core`).

    The core space (Panariello et al. 2025, arXiv 2509.17786) has the left singular vectors U of the stacked `up` and the right
    ones V of the stacked `down` as bases; U^T Delta_j V is at most R x R, R the sum of ranks, and loses nothing. What is linear
    in the entries gives the same in both spaces; pruning and voting do not. Where R reaches the layer's width, the core space
    is the layer's own, turned.
    """
    flats = [Factors(part.down.flatten(1), part.up) for part in parts]
    if space == "dense":
        return combined(flats, prune, combine).view(parts[0].up.shape[0], *parts[0].down.shape[1:])
    ranks = [part.rank for part in parts]
    left, ups = axes(torch.cat([part.up for part in flats], dim=1).cpu())
    right, downs = axes(torch.cat([part.down for part in flats]).T.cpu())
    pairs = zip(torch.split(downs.T, ranks), torch.split(ups, ranks, dim=1), strict=True)
    core = combined([Factors(down, up) for down, up in pairs], prune, combine)
    # the smaller rank of the two that the result may have
    small = core.shape[0] <= core.shape[1]
    return shaped(core @ right.T, left, parts[0]) if small else shaped(right.T, left @ core, parts[0])


def combined(parts: Sequence[Factors], prune: Prune, combine: Combine) -> Tensor:
    """Return the merged entries of flat factors, [outputs, inputs], made block by block of rows."""
    size = BLOCK if parts[0].up.device.type == "cpu" else LARGE_BLOCK
    height = max(1, size // max(1, parts[0].down.shape[1]))
    pruned = [prune(_blocks(part, height)) for part in parts]
    rows = zip(*(_blocks(part, height) for part in parts), strict=True)
    return torch.cat([combine(p(block) for p, block in zip(pruned, blocks, strict=True)) for blocks in rows])


def keep_largest(density: float) -> Prune:
    """Keep the share `density` of a LoRA's entries that are largest by size, and those that equal the least of them."""

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        if density == 1:
            return _all
        sizes = torch.cat([block.abs_().flatten() for block in blocks]).cpu().numpy()
        # a core space has no entries where all factors are zero
        if not sizes.size:
            return _all
        place = sizes.size - max(1, round(density * sizes.size))
        sizes.partition(place)
        bound = float(sizes[place])
        return lambda block: block.mul_(torch.ge(block.abs(), bound, out=torch.empty_like(block)))

    return prune


def keep_at_random(density: float, rng: Generator) -> Prune:
    """Keep each entry with probability `density`, divided by it, so that the mean over draws is the entry itself.

    Each LoRA has a generator of its own: what is kept does not depend on the blocks, which differ from device to device.
    """

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        if density == 1:
            return _all
        own = Generator("cpu").manual_seed(int(torch.randint(1 << 62, (1,), generator=rng)))

        def thin(block: Tensor) -> Tensor:
            kept = torch.rand(block.shape, generator=own).to(block.device) < density
            return block.mul_(kept).div_(density)

        return thin

    return prune


def total(blocks: Iterable[Tensor]) -> Tensor:
    """Return the sum over LoRAs."""
    first, *others = blocks
    for block in others:
        first += block
    return first


def agreeing_mean(blocks: Iterable[Tensor]) -> Tensor:
    """Return, for each entry, the mean of the LoRAs' values whose sign is that of their sum; a sum of zero counts as plus.

    Sign election and disjoint mean of TIES (Yadav et al. 2023, arXiv 2306.01708): zeros have no vote and no part. Blocks are
    taken one at a time and written over.
    """
    sums: list[Tensor] = []
    for block in blocks:
        if not sums:
            sums = [torch.zeros_like(block) for _ in range(4)]
            spare = torch.empty_like(block)
        above, below, plus, minus = sums
        above += torch.clamp(block, min=0, out=spare)
        # comparisons answer in the entries' own type: torch turns booleans into numbers far more slowly
        plus += torch.gt(block, 0, out=spare)
        below += torch.clamp(block, max=0, out=spare)
        minus += torch.lt(block, 0, out=spare)
    above, below, plus, minus = sums
    return torch.where(above + below < 0, below / minus.clamp_(min=1), above / plus.clamp_(min=1))


def _blocks(part: Factors, height: int) -> Iterator[Tensor]:
    return (rows @ part.down for rows in torch.split(part.up, height))


def _all(block: Tensor) -> Tensor:
    return block
