"""Original layers that a model stores as several layers, such as a fused qkv: splitting and joining of their changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from generation.lora.factors import DenseChange, Factors

# Returns the rows of one of the model's layers from a tensor with those of the original layer.
Rows = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class FusedLayer:
    """An original layer as its LoRA file sees it: weight and bias contain the rows of several layers of the model.

    With `swapped` (one layer) the halves of the rows are exchanged.
    """

    modules: Sequence[Any]
    swapped: bool = False

    @cached_property
    def rows(self) -> tuple[Rows, ...]:
        """Return, for each layer of the model, the function that takes its rows out of the original layer's."""
        if self.swapped:
            return (swap_halves,)
        bounds = accumulate((len(module.weight) for module in self.modules), initial=0)
        return tuple(partial(_between, start, end) for start, end in pairwise(bounds))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the original layer's weight."""
        return (sum(len(module.weight) for module in self.modules), *self.modules[0].weight.shape[1:])

    @property
    def weight(self) -> Tensor:
        """Return the original layer's weight."""
        whole = torch.cat([module.weight.detach() for module in self.modules])
        return swap_halves(whole) if self.swapped else whole

    @property
    def bias(self) -> Tensor | None:
        """Return the original layer's bias, None if a layer has none."""
        biases = [module.bias.detach() for module in self.modules if getattr(module, "bias", None) is not None]
        if len(biases) < len(self.modules):
            return None
        whole = torch.cat(biases)
        return swap_halves(whole) if self.swapped else whole


def swap_halves(rows: Tensor) -> Tensor:
    """Return a tensor with its two halves of rows exchanged."""
    first, second = rows.chunk(2)
    return torch.cat([second, first])


def split_factors(factors: Factors, rows: Rows) -> Factors:
    """Return the factors of one layer from those of the original layer, without ranks that do not reach its rows.

    kohya's trainer can give q, k and v separate ranks in one block-diagonal `up`.
    """
    up = rows(factors.up)
    used = up.ne(0).any(dim=0)
    if not bool(used.any()) or bool(used.all()):
        return Factors(factors.down, up)
    return Factors(factors.down[used], up[:, used])


def split_change(change: DenseChange, rows: Rows) -> DenseChange:
    """Return the change of one layer from that of the original layer."""
    count = len(rows(torch.empty(change.shape[0], 0)))
    return replace(change, shape=(count, *change.shape[1:]), compute=lambda: rows(change.compute()))


def join_factors(parts: Sequence[Factors | None], counts: Sequence[int], *, swapped: bool) -> Factors:
    """Return factors of the original layer from those of the layers that own its rows; None leaves rows unchanged.

    `counts` are the rows of each layer. Parts that read the same inputs share one rank, others are block-diagonal.
    """
    given = [part for part in parts if part is not None]
    shared = all(part.down.shape == given[0].down.shape and torch.equal(part.down, given[0].down) for part in given)
    ranks = [given[0].rank if shared else part.rank for part in given]
    up = given[0].up.new_zeros(sum(counts), ranks[0] if shared else sum(ranks))
    row = column = 0
    for part, count in zip(parts, counts, strict=True):
        if part is not None:
            start = 0 if shared else column
            up[row : row + count, start : start + part.rank] = part.up
            column += part.rank
        row += count
    down = given[0].down if shared else torch.cat([part.down for part in given])
    return Factors(down, swap_halves(up) if swapped else up)


def join_rows(parts: Sequence[Tensor | None], counts: Sequence[int], *, swapped: bool) -> Tensor:
    """Return a dense change of the original layer from those of the layers that own its rows; None leaves rows unchanged."""
    given = next(part for part in parts if part is not None)
    rows = [
        given.new_zeros(count, *given.shape[1:]) if part is None else part for part, count in zip(parts, counts, strict=True)
    ]
    whole = torch.cat(rows)
    return swap_halves(whole) if swapped else whole


def _between(start: int, end: int, rows: Tensor) -> Tensor:
    return rows[start:end]
