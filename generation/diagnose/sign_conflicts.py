"""Sign conflicts: the share of a weight's entries that some LoRAs raise and others lower, as more LoRAs are merged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from generation.lora.factors import Lora
from generation.seeds import derived

# Entries looked at together; what of all LoRAs is held as dense numbers at once.
ENTRIES = 1 << 22


@dataclass(frozen=True)
class SignConflict:
    """`count` LoRAs: share of entries with both signs, share of magnitude that cancels, and both for independent numbers."""

    count: int
    conflicting: float
    cancelled: float
    conflicting_by_chance: float
    cancelled_by_chance: float


def by_chance(count: int) -> tuple[float, float]:
    """Return what independent numbers of random sign give: 1 - 2^(1-n), and 1 - 1 / sqrt(n) for normal ones of one size."""
    return 1 - 2.0 ** (1 - count), 1 - count**-0.5


def sign_conflicts(loras: Sequence[Lora], orders: int = 10, seed: int = 0) -> list[SignConflict]:
    """Return the conflicts among 2, 3, ... LoRAs, over all entries of the layers that all adapt, as a mean over random orders.

    BlockLoRA, Figure 4 (right), shows only the first number; the chance level is needed to interpret it. The second number is
    1 - sum |sum_j Delta_j| / sum sum_j |Delta_j|. An entry of zero has no sign.
    """
    layers = sorted(set.intersection(*(set(lora.layers) for lora in loras)))
    generator = Generator("cpu").manual_seed(derived("orders", seed))
    shuffled = [torch.randperm(len(loras), generator=generator).tolist() for _ in range(orders)]
    both = torch.zeros(len(loras), dtype=torch.float64)
    left, whole = torch.zeros_like(both), torch.zeros_like(both)
    entries = 0
    for layer in layers:
        parts = [lora.part(layer) for lora in loras]
        inputs = parts[0].down.flatten(1).shape[1]
        rows = max(1, ENTRIES // (inputs * len(loras)))
        for start in range(0, len(parts[0].up), rows):
            changes = [part.up[start : start + rows] @ part.down.flatten(1) for part in parts]
            entries += changes[0].numel()
            for order in shuffled:
                for step, counts in enumerate(_along([changes[index] for index in order])):
                    both[step] += counts[0]
                    left[step] += counts[1]
                    whole[step] += counts[2]
    return [
        SignConflict(
            step + 1,
            float(both[step]) / (entries * orders),
            1 - float(left[step] / whole[step]) if whole[step] else 0.0,
            *by_chance(step + 1),
        )
        for step in range(1, len(loras))
    ]


def _along(changes: Sequence[Tensor]) -> list[tuple[float, float, float]]:
    """Return, after each change, how many entries have both signs, and the sums of |sum| and of magnitudes."""
    raised, lowered = torch.zeros_like(changes[0], dtype=torch.bool), torch.zeros_like(changes[0], dtype=torch.bool)
    total, size = torch.zeros_like(changes[0]), torch.zeros_like(changes[0])
    counts = []
    for change in changes:
        raised |= change > 0
        lowered |= change < 0
        total, size = total + change, size + change.abs()
        counts.append(
            (float((raised & lowered).sum()), float(total.abs().sum(dtype=torch.float64)), float(size.sum(dtype=torch.float64)))
        )
    return counts
