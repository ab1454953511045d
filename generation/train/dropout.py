"""Dropout inside LoRA layers: inputs, hidden units and outputs that are set to zero for a step.

peft also has dropout of inputs, but from the global generator, which would not be reproducible in a resumed run or under
gradient checkpointing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from generation.seeds import derived
from generation.train.recipe import TrainingRecipe


class TrainingDropout:
    """Draws the masks of a step; each depends only on the recipe's seed, the kind, the layer and the step.

    While `step` is None nothing is masked.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        self.recipe = recipe
        self.step: int | None = None

    def attach(self, name: str, layer: Any, adapter: str) -> None:  # noqa: ANN401 - peft's LoRA layer
        """Register the recipe's masks on a LoRA layer of peft."""
        recipe, erasure = self.recipe, self.recipe.erasure
        down, up = layer.lora_A[adapter], layer.lora_B[adapter]
        if recipe.dropout > 0:
            # Hu 2021: elements of the input
            down.register_forward_pre_hook(
                lambda module, args: (self._masked(args[0], "dropout", name, args[0].shape, recipe.dropout, rescale=True),)
            )
        if recipe.rank_dropout > 0:
            # kohya's sd-scripts: hidden units of each sample
            down.register_forward_hook(
                lambda module, args, hidden: self._masked(
                    hidden, "rank_dropout", name, _channels(module, hidden), recipe.rank_dropout, rescale=True
                )
            )
        if erasure is not None:
            # BlockLoRA, equation 3: rows of the change, the same for the whole step or sampled for each image
            up.register_forward_hook(
                lambda module, args, output: self._masked(
                    output,
                    "erasure",
                    name,
                    _channels(module, output if erasure.per == "sample" else output[:1]),
                    erasure.rate,
                    rescale=erasure.rescale,
                )
            )

    def _masked(self, x: Tensor, kind: str, name: str, shape: Sequence[int], rate: float, *, rescale: bool) -> Tensor:
        if self.step is None:
            return x
        generator = Generator(x.device).manual_seed(derived(kind, self.recipe.seed, name, self.step))
        mask = (torch.rand(tuple(shape), generator=generator, device=x.device) >= rate).to(x.dtype)
        return x * (mask / (1 - rate) if rescale else mask)


def _channels(module: nn.Module, features: Tensor) -> tuple[int, ...]:
    """Return the shape that has one number per sample and channel: of [b, c, h, w] after a convolution, else of [b, ..., c]."""
    first, *inner = features.shape
    if isinstance(module, nn.Conv2d):
        return (first, inner[0], 1, 1)
    return (first, *[1] * (len(inner) - 1), inner[-1])
