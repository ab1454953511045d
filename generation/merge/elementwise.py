"""Merges of single entries: prune the entries of each LoRA's change, then combine them across LoRAs.

The two factors are never pruned separately, as peft does: entries of A and B have no meaning by themselves, and products of
pruned factors contain cross terms that no LoRA has.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Generator, Tensor

from generation.lora.factors import Factors, Lora
from generation.merge.lowrank import axes, shaped
from generation.merge.method_inputs import Layer

Density = Annotated[float, Field(gt=0, le=1)]
Space = Literal["dense", "core"]
# What the largest entries are compared with: the layer's, or those of the LoRA's whole model.
Trim = Literal["layer", "model"]
# Roles of weights in an election of signs and in the mean of those that agree.
Vote = Literal["weighted", "equal"]
Mean = Literal["count", "weights"]
# Receives one LoRA's entries as blocks of rows; returns a function that prunes such a block in place.
Prune = Callable[[Iterable[Tensor]], Callable[[Tensor], Tensor]]
# Combines one block of each LoRA's entries, [rows, columns], into the merged block.
Combine = Callable[[Iterable[Tensor]], Tensor]
# Entries of one LoRA per block, on the CPU (fits a core's cache) and on other devices.
BLOCK, LARGE_BLOCK = 1 << 18, 1 << 24


def merge_entries(parts: Sequence[Factors], space: Space, prune: Prune | Sequence[Prune], combine: Combine) -> Factors | Tensor:
    """Return the merge of the LoRAs' entries, pruned LoRA by LoRA and combined block by block; see `merge_all_entries`."""
    return merge_all_entries(parts, space, lambda flats: combined(flats, prune, combine))


def merge_all_entries(parts: Sequence[Factors], space: Space, merge: Callable[[Sequence[Factors]], Tensor]) -> Factors | Tensor:
    """Return `merge` of flat factors, in the layer's own weight (`dense`) or in the LoRAs' common core space (`core`).

    The core space (Panariello et al. 2025, arXiv 2509.17786) has as bases the left singular vectors U of the stacked `up`
    and the right ones V of the stacked `down`. U^T Delta_j V is at most R x R, R the sum of ranks, and loses nothing.
    Operations that are linear in the entries give the same result in both spaces; pruning and sign election do not. If R
    reaches the layer's width, the core space is a rotation of the layer's own.
    """
    flats = [Factors(part.down.flatten(1), part.up) for part in parts]
    if space == "dense":
        return merge(flats).view(parts[0].up.shape[0], *parts[0].down.shape[1:])
    ranks = [part.rank for part in parts]
    left, ups = axes(torch.cat([part.up for part in flats], dim=1).cpu())
    right, downs = axes(torch.cat([part.down for part in flats]).T.cpu())
    pairs = zip(torch.split(downs.T, ranks), torch.split(ups, ranks, dim=1), strict=True)
    core = merge([Factors(down, up) for down, up in pairs])
    # choose the form of smaller rank
    small = core.shape[0] <= core.shape[1]
    return shaped(core @ right.T, left, parts[0]) if small else shaped(right.T, left @ core, parts[0])


def entries(flats: Sequence[Factors]) -> Iterator[Tensor]:
    """Yield each LoRA's entries, [outputs, inputs]."""
    return (part.up @ part.down for part in flats)


def combined(parts: Sequence[Factors], prune: Prune | Sequence[Prune], combine: Combine) -> Tensor:
    """Return the merged entries of flat factors, [outputs, inputs], computed block by block of rows."""
    size = BLOCK if parts[0].up.device.type == "cpu" else LARGE_BLOCK
    height = max(1, size // max(1, parts[0].down.shape[1]))
    prunes = [prune] * len(parts) if callable(prune) else prune
    pruned = [own(_blocks(part, height)) for own, part in zip(prunes, parts, strict=True)]
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


def trimmed(parts: Sequence[Factors], layer: Layer, density: float, space: Space, trim: Trim) -> Prune | Sequence[Prune]:
    """Return how to keep each LoRA's largest entries: per layer, or over the LoRA's whole model as TIES' authors do."""
    if trim == "layer":
        return keep_largest(density)
    bounds = []
    for position, weight in zip(layer.places, layer.part_weights, strict=True):
        key = ("bound", layer.loras[position].sha256, str(position), str(density))
        if key not in layer.shared:
            layer.shared[key] = model_bound(layer.loras[position], density)
        bounds.append(keep_above(layer.shared[key] * abs(weight)))
    return bounds


def check_trim(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError if entries of a core space would be trimmed over the whole model."""
    if settings.trim == "model" and settings.space != "dense":
        raise ValueError('trim = "model" compares entries of weights; it needs space = "dense"')


def keep_above(bound: float) -> Prune:
    """Keep a LoRA's entries of at least this absolute value."""
    return lambda blocks: lambda block: block.mul_(block.abs() >= bound)


def model_bound(lora: Lora, density: float) -> float:
    """Return the smallest absolute value among the share `density` of the largest entries of a LoRA's changes of weights."""

    def blocks() -> Iterator[tuple[int, Tensor]]:
        for name in lora.layers:
            if name not in lora.parameters:
                part = lora.part(name)
                yield from ((0, block) for block in row_blocks(Factors(part.down.flatten(1), part.up)))

    return largest_bounds(blocks, density).get(0, 0.0)


def largest_bounds(blocks: Callable[[], Iterator[tuple[int, Tensor]]], density: float) -> dict[int, float]:
    """Return the smallest absolute value among the share `density` of each LoRA's largest entries, by its position.

    `blocks` yields positions and float32 entries; it is called twice. Exact and in little memory: absolute float32 values have
    the order of their bits, whose upper and lower halves are counted in two passes.
    """

    def bits() -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        for position, block in blocks():
            yield position, block.abs().flatten().cpu().numpy().view(np.int32)

    upper: dict[int, npt.NDArray[np.int64]] = {}
    for position, values in bits():
        counts = np.bincount(values >> 16, minlength=1 << 16)
        upper[position] = upper[position] + counts if position in upper else counts
    halves, ranks = {}, {}
    for position, counts in upper.items():
        rank = max(1, round(density * int(counts.sum())))
        half = (1 << 16) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), rank))
        halves[position], ranks[position] = half, rank - int(counts[half + 1 :].sum())
    lower = {position: np.zeros(1 << 16, np.int64) for position in upper}
    for position, values in bits():
        lower[position] += np.bincount(values[values >> 16 == halves[position]] & 0xFFFF, minlength=1 << 16)
    bounds = {}
    for position, counts in lower.items():
        rest = (1 << 16) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), ranks[position]))
        bounds[position] = float(np.array([halves[position] << 16 | rest], np.int32).view(np.float32)[0])
    return bounds


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


def keep_middle(density: float, gamma: float) -> Prune:
    """Drop the share `gamma` of a LoRA's largest entries and its smallest, so that the share `density` is kept.

    mergekit's rule: if less than `gamma` remains below `density`, fewer of the largest are dropped.
    """

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        sizes = torch.cat([block.abs_().flatten() for block in blocks]).cpu().numpy()
        if not sizes.size:
            return _all
        count = round(density * sizes.size)
        largest = min(round(gamma * sizes.size), sizes.size - count)
        sizes.sort()
        high = float(sizes[sizes.size - largest - 1])
        low = float(sizes[max(0, sizes.size - largest - count)])
        return lambda block: block.mul_((block.abs() >= low) & (block.abs() <= high))

    return prune


def keep_by_rank(density: float, window: float, rng: Generator) -> Prune:
    """Keep each entry with a probability of density -+ window by its rank in its row, divided by that probability."""

    def prune(blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        own = Generator("cpu").manual_seed(int(torch.randint(1 << 62, (1,), generator=rng)))

        def thin(block: Tensor) -> Tensor:
            ranks = block.abs().argsort(dim=1).argsort(dim=1).to(block)
            probabilities = density - window + 2 * window * ranks / max(1, block.shape[1] - 1)
            mask = torch.rand(block.shape, generator=own).to(block.device) < probabilities
            return block.mul_(mask).div_(probabilities)

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


def disjoint_mean(weights: Sequence[float], vote: Vote, mean: Mean) -> Combine:
    """Return the election of TIES with other roles of the weights than in `agreeing_mean`.

    Entries arrive multiplied by their weights. The election sums weighted or equally counted entries; the sum of those that
    agree is divided by their number or by the sum of their weights.
    """
    if (vote, mean) == ("weighted", "count"):
        return agreeing_mean

    def combine(blocks: Iterable[Tensor]) -> Tensor:
        stack = list(blocks)
        ballots = [block / weight for block, weight in zip(stack, weights, strict=True)] if vote == "equal" else stack
        majority = torch.where(sum(ballots[1:], ballots[0]) < 0, -1.0, 1.0)
        agree = [(ballot.sign() == majority).to(ballot) for ballot in ballots]
        total_ = sum((block * one for block, one in zip(stack, agree, strict=True)), torch.zeros_like(stack[0]))
        parts = [one * (weight if mean == "weights" else 1.0) for one, weight in zip(agree, weights, strict=True)]
        share = sum(parts[1:], parts[0])
        return total_ / torch.where(share == 0, 1.0, share)

    return combine


def _blocks(part: Factors, height: int) -> Iterator[Tensor]:
    return (rows @ part.down for rows in torch.split(part.up, height))


def row_blocks(part: Factors) -> Iterator[Tensor]:
    """Yield the entries of flat factors in blocks of rows that fit a core's cache."""
    return _blocks(part, max(1, BLOCK // max(1, part.down.shape[1])))


def _all(block: Tensor) -> Tensor:
    return block
