"""Inputs for the tiny SDXL's UNet."""

from collections.abc import Sequence
from typing import Any

import torch


def unet_inputs(images: Sequence[int]) -> dict[str, Any]:
    """Unguided rows, then guided rows; a row depends on its image and half alone."""
    rows = []
    for half in (0, 1):
        for image in images:
            rng = torch.Generator().manual_seed(100 * half + image)
            rows.append([torch.randn(size, generator=rng) for size in ((4, 8, 8), (16, 32), (16,), (6,))])
    sample, hidden, pooled, ids = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return {
        "sample": sample, "timestep": 500, "encoder_hidden_states": hidden,
        "added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids},
    }  # fmt: skip
