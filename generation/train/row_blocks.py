"""BlockLoRA's rows: which outputs of a layer belong to a slot, so that concepts of different slots never overlap.

Zhu et al. 2025, section 3.3. The paper does not state how rows are chosen; the three rules here are ours.
"""

from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import UserError
from generation.train.recipe import Blocks

# Layers whose rows are heads one after the other, in diffusers and in transformers.
OF_HEADS = ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj")


def slot_mask(part: nn.Module, layer: str, rows: int, blocks: Blocks) -> Tensor:
    """Return which of the layer's `rows` outputs are the slot's, as booleans.

    A GEGLU's projection gives values and gates in two halves that are multiplied with each other; a slot has the same rows of
    both.

    Raises:
        UserError: the layer has too few rows, or heads, for so many slots.
    """
    from diffusers.models.activations import GEGLU

    parent: Any = part.get_submodule(layer.rpartition(".")[0])
    halves = 2 if isinstance(parent, GEGLU) else 1
    count, wide, unit = rows // halves, 1, "rows"
    if blocks.rule == "heads" and layer.rpartition(".")[2] in OF_HEADS:
        count = getattr(parent, "heads", None) or parent.num_heads
        wide, unit = rows // count, "heads"
    if count < blocks.slots:
        raise UserError(f"blocks.slots: {layer} has {count} {unit}, too few for {blocks.slots} slots; give {count} or fewer")
    mine = slot_members(count, blocks).repeat_interleave(wide)
    return mine.repeat(halves)


def slot_members(count: int, blocks: Blocks) -> Tensor:
    """Return which of `count` rows or heads belong to the slot: one range, or, if strided, every `slots`-th."""
    index = torch.arange(count)
    if blocks.rule == "strided":
        return index % blocks.slots == blocks.slot
    return (index >= blocks.slot * count // blocks.slots) & (index < (blocks.slot + 1) * count // blocks.slots)
