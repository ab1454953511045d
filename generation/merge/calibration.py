"""What calibrated merges learn of a layer: second moments of its inputs, while each LoRA alone draws its own concept."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import UserError
from evalkit.run.file_record import Record
from generation.lora_file import Factors


class CalibrationOptions(Record):
    """What each LoRA draws to be measured: `prompts` with its concept's words for {}, in as many denoising steps.

    Mix-of-Show draws one image per concept in 20 steps without guidance; SSR takes one step.
    """

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("photo of {}",)
    calibration_steps: Annotated[int, Field(ge=1, le=1000)] = 20

    @field_validator("prompts")
    @classmethod
    def _names_the_concept(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if prompt.count("{}") != 1 or prompt.replace("{}", "").count("{") + prompt.replace("{}", "").count("}"):
                raise ValueError(f"{prompt!r} must hold {{}} once, where a concept's words go")
        return prompts


class Moments:
    """Sums over all inputs x of one layer, made while LoRA i alone acts, of products with features f.

    Features are the inputs, f = x, or all LoRAs' hidden activations, f = [A_1 x; ...; A_k x]. `own` has, per LoRA of the layer,
    the sum of (A_i x) f^T over the inputs that LoRA i made, [rank, features]; `squares` of f * f over the same; `total` that of
    f f^T over the inputs of all LoRAs, even those that do not adapt the layer. A convolution's inputs are windows, laid flat.
    """

    def __init__(self, downs: Sequence[Tensor], *, hidden: bool) -> None:
        self.downs = [down.flatten(1) for down in downs]
        self._stacked = torch.cat(self.downs) if hidden else None
        width = self.downs[0].shape[1] if self._stacked is None else self._stacked.shape[0]
        self.total = self.downs[0].new_zeros(width, width)
        self.own = [down.new_zeros(down.shape[0], width) for down in self.downs]
        self.squares = [self.total.new_zeros(width) for _ in self.downs]

    def add(self, inputs: Tensor, acting: int | None) -> None:
        """Add inputs [count, width] that a LoRA made: the layer's LoRA number `acting`, or one that does not adapt it."""
        features = inputs if self._stacked is None else inputs @ self._stacked.T
        self.total.addmm_(features.T, features)
        if acting is not None:
            self.own[acting].addmm_((inputs @ self.downs[acting].T).T, features)
            self.squares[acting] += features.square().sum(0)

    def watch(self, module: nn.Module, args: tuple[Any, ...], acting: int | None) -> None:
        """Add what a layer is called with."""
        x = args[0].detach()
        if isinstance(module, nn.Conv2d):
            # a string stands for no padding or for the same size; no diffusers model has one
            padding: Any = module.padding
            windows = functional.unfold(x.float(), module.kernel_size, module.dilation, padding, module.stride)
            self.add(windows.transpose(1, 2).flatten(0, 1), acting)
        else:
            self.add(x.float().flatten(0, -2), acting)


def ridged(own: Sequence[Tensor], total: Tensor, ridge: float) -> Tensor:
    """Return own_i (total + ridge tr(total) / n)^-1 of all LoRAs, stacked; [sum of ranks, features], float64 on the CPU.

    Raises:
        UserError: the ridge does not outweigh rounding.
    """
    right = torch.cat([part.to("cpu", torch.float64) for part in own])
    size = len(total)
    # by columns, so that it can be factored where it lies: for SDXL's widest layers it takes 0.8 GB
    left = torch.empty_strided((size, size), (1, size), dtype=torch.float64).copy_(total)
    mean = float(left.diagonal().mean())
    if mean == 0:
        # a layer that saw nothing but zeros: any change fits, the smallest is none
        return right
    left.diagonal().add_(ridge * mean)
    failed = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(left, out=(left, failed))
    if failed:
        raise UserError(f"ridge = {ridge:g} is too small for what a layer saw in calibration; give a larger one, such as 0.001")
    solution: Tensor = torch.cholesky_solve(right.T, left).T
    return solution


def rewired(parts: Sequence[Factors], rows: Tensor) -> Factors:
    """Return the LoRA whose second factors are those of `parts` and whose first is `rows`, [sum of ranks, inputs]."""
    window = parts[0].down.shape[1:]
    up = torch.cat([part.up for part in parts], dim=1)
    return Factors(rows.to(up).view(rows.shape[0], *window), up)
