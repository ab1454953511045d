"""Merges of single entries: prune the entries of each LoRA's change, then combine them across LoRAs.

The two factors are never pruned separately, as peft does: entries of A and B have no meaning by themselves, and products of
pruned factors contain cross terms that no LoRA has.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from generation.lora.factors import Factors
from generation.merge.lowrank import axes, shaped

Density = Annotated[float, Field(gt=0, le=1)]
Space = Literal["dense", "core"]
# Receives one LoRA's entries as blocks of rows; returns a function that prunes such a block in place.
Prune = Callable[[Iterable[Tensor]], Callable[[Tensor], Tensor]]
# Combines one block of each LoRA's entries, [rows, columns], into the merged block.
Combine = Callable[[Iterable[Tensor]], Tensor]
# Entries of one LoRA per block, on the CPU (fits a core's cache) and on other devices.
BLOCK, LARGE_BLOCK = 1 << 18, 1 << 24


def merge_entries(parts: Sequence[Factors], space: Space, prune: Prune, combine: Combine) -> Factors | Tensor:
    """Return the merge of the LoRAs' entries, in the layer's own weight (`dense`) or in their common core space (`core`).

    The core space (Panariello et al. 2025, arXiv 2509.17786) has as bases the left singular vectors U of the stacked `up` and
    the right ones V of the stacked `down`. U^T Delta_j V is at most R x R, R the sum of ranks, and loses nothing. Operations
    that are linear in the entries give the same result in both spaces; pruning and sign election do not. If R reaches the
    layer's width, the core space is a rotation of the layer's own.
    """
    flats = [Factors(part.down.flatten(1), part.up) for part in parts]
    if space == "dense":
        return combined(flats, prune, combine).view(parts[0].up.shape[0], *parts[0].down.shape[1:])
    ranks = [part.rank for part in parts]
    left, ups = axes(torch.cat([part.up for part in flats], dim=1).cpu())
    right, downs = axes(torch.cat([part.down for part in flats]).T.cpu())
    pairs = zip(torch.split(downs.T, ranks), torch.split(ups, ranks, dim=1), strict=True)
    core = combined([Factors(down, up) for down, up in pairs], prune, combine)
    # choose the form of smaller rank
    small = core.shape[0] <= core.shape[1]
    return shaped(core @ right.T, left, parts[0]) if small else shaped(right.T, left @ core, parts[0])


def combined(parts: Sequence[Factors], prune: Prune, combine: Combine) -> Tensor:
    """Return the merged entries of flat factors, [outputs, inputs], computed block by block of rows."""
    size = BLOCK if parts[0].up.device.type == "cpu" else LARGE_BLOCK
    height = max(1, size // max(1, parts[0].down.shape[1]))
    pruned = [prune(_blocks(part, height)) for part in parts]
    rows = zip(*(_blocks(part, height) for part in parts), strict=True)
    return torch.cat([combine(p(block) for p, block in zip(pruned, blocks, strict=True)) for blocks in rows])


def keep_largest(density: float) -> Prune:
    """Keep the share `density` of a LoRA's entries with the largest absolute values; ties at the bound are kept."""

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        if density == 1:
            return _all
        sizes = torch.cat([block.abs_().flatten() for block in blocks]).cpu().numpy()
        # a core space is empty if all factors are zero
        if not sizes.size:
            return _all
        index = sizes.size - max(1, round(density * sizes.size))
        sizes.partition(index)
        bound = float(sizes[index])
        return lambda block: block.mul_(torch.ge(block.abs(), bound, out=torch.empty_like(block)))

    return prune


def keep_at_random(density: float, rng: Generator) -> Prune:
    """Keep each entry with probability `density`, divided by it, so that the expectation is the entry itself.

    Each LoRA has its own generator, so the selection does not depend on the block size, which differs between devices.
    """

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        if density == 1:
            return _all
        own = Generator("cpu").manual_seed(int(torch.randint(1 << 62, (1,), generator=rng)))

        def thin(block: Tensor) -> Tensor:
            mask = torch.rand(block.shape, generator=own).to(block.device) < density
            return block.mul_(mask).div_(density)

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

    Sign election and disjoint mean of TIES (Yadav et al. 2023, arXiv 2306.01708): zeros are ignored. Blocks are processed one
    at a time and overwritten.
    """
    sums: list[Tensor] = []
    for block in blocks:
        if not sums:
            sums = [torch.zeros_like(block) for _ in range(4)]
            spare = torch.empty_like(block)
        above, below, plus, minus = sums
        above += torch.clamp(block, min=0, out=spare)
        # comparisons write the entries' own type, since torch converts booleans to numbers far more slowly
        plus += torch.gt(block, 0, out=spare)
        below += torch.clamp(block, max=0, out=spare)
        minus += torch.lt(block, 0, out=spare)
    above, below, plus, minus = sums
    return torch.where(above + below < 0, below / minus.clamp_(min=1), above / plus.clamp_(min=1))


def _blocks(part: Factors, height: int) -> Iterator[Tensor]:
    return (rows @ part.down for rows in torch.split(part.up, height))


def _all(block: Tensor) -> Tensor:
    return block
