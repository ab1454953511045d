"""Second moments of a layer's inputs, for calibrated merges."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import UserError
from evalkit.run.file_record import Record
from generation.lora.factors import Factors


class CalibrationOptions(Record):
    """Calibration images: `prompts` with the concept's words for {}, sampled in `calibration_steps` denoising steps.

    Mix-of-Show samples one image per concept in 20 steps without guidance; SSR takes one step.
    """

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("photo of {}",)
    calibration_steps: Annotated[int, Field(ge=1, le=1000)] = 20

    @field_validator("prompts")
    @classmethod
    def _names_the_concept(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if prompt.count("{}") != 1 or prompt.replace("{}", "").count("{") + prompt.replace("{}", "").count("}"):
                raise ValueError(f"{prompt!r} must contain {{}} exactly once, in place of the concept's words")
        return prompts


class Moments:
    """Sums of products of a layer's inputs x with features f, collected while LoRA i alone is active.

    Features are the inputs, f = x, or all LoRAs' hidden activations, f = [A_1 x; ...; A_k x]. `own` contains, per LoRA of the
    layer, the sum of (A_i x) f^T over its own inputs, [rank, features]; `squares` that of f * f. `total` is the sum of f f^T
    over the inputs of all LoRAs, including those that do not adapt the layer. Inputs of a convolution are flattened windows.
    """

    def __init__(self, downs: Sequence[Tensor], *, hidden: bool) -> None:
        self.downs = [down.flatten(1) for down in downs]
        self._stacked = torch.cat(self.downs) if hidden else None
        width = self.downs[0].shape[1] if self._stacked is None else self._stacked.shape[0]
        self.total = self.downs[0].new_zeros(width, width)
        self.own = [down.new_zeros(down.shape[0], width) for down in self.downs]
        self.squares = [self.total.new_zeros(width) for _ in self.downs]

    def add(self, inputs: Tensor, acting: int | None) -> None:
        """Add inputs [count, width] of the layer's LoRA number `acting`, or of a LoRA that does not adapt it (None)."""
        features = inputs if self._stacked is None else inputs @ self._stacked.T
        self.total.addmm_(features.T, features)
        if acting is not None:
            self.own[acting].addmm_((inputs @ self.downs[acting].T).T, features)
            self.squares[acting] += features.square().sum(0)

    def watch(self, module: nn.Module, args: tuple[Any, ...], acting: int | None) -> None:
        """Add the inputs of a forward call."""
        x = args[0].detach()
        if isinstance(module, nn.Conv2d):
            # padding given as a string does not occur in diffusers models
            padding: Any = module.padding
            windows = functional.unfold(x.float(), module.kernel_size, module.dilation, padding, module.stride)
            self.add(windows.transpose(1, 2).flatten(0, 1), acting)
        else:
            self.add(x.float().flatten(0, -2), acting)


def ridged(own: Sequence[Tensor], total: Tensor, ridge: float) -> Tensor:
    """Return own_i (total + ridge tr(total) / n)^-1 of all LoRAs, stacked; [sum of ranks, features], float64 on the CPU.

    Raises:
        UserError: the ridge is too small for a numerically positive-definite system.
    """
    right = torch.cat([part.to("cpu", torch.float64) for part in own])
    size = len(total)
    # column-major, so that it is factored in place: it takes 0.8 GB for SDXL's widest layers
    left = torch.empty_strided((size, size), (1, size), dtype=torch.float64).copy_(total)
    mean = float(left.diagonal().mean())
    if mean == 0:
        # all inputs were zero: every change fits, and the smallest is zero
        return right
    left.diagonal().add_(ridge * mean)
    failed = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(left, out=(left, failed))
    if failed:
        raise UserError(
            f"ridge = {ridge:g} is too small for the inputs of a layer in calibration; give a larger one, such as 0.001"
        )
    solution: Tensor = torch.cholesky_solve(right.T, left).T
    return solution


def rewired(parts: Sequence[Factors], rows: Tensor) -> Factors:
    """Return the LoRA with the second factors of `parts` and `rows`, [sum of ranks, inputs], as first factor."""
    window = parts[0].down.shape[1:]
    up = torch.cat([part.up for part in parts], dim=1)
    return Factors(rows.to(up).view(rows.shape[0], *window), up)
