"""Mixed precision by accelerate: float32, float16 with loss scaling, or bfloat16."""

from typing import Any

import torch

from evalkit.errors import UserError

MIXED = {torch.float32: "no", torch.float16: "fp16", torch.bfloat16: "bf16"}


def accelerator_for(device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401 - accelerate ships no types
    """Return an accelerator that computes in `dtype` on the kind of `device`; weights that are trained stay in float32.

    Raises:
        UserError: float16 on a device where accelerate can't scale the loss, so that small gradients would vanish.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if dtype == torch.float16 and device.type == "cpu":
        raise UserError("dtype float16: cannot be trained on the CPU; give bfloat16 or float32, or a GPU by --device")
    # accelerate keeps one setting per process and refuses another; a second training in this process may need one
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=MIXED[dtype], cpu=device.type == "cpu")
