"""LoRA Composite: every LoRA guides every step, and their guesses are averaged."""

from collections.abc import Mapping

import torch
from torch import Tensor

from generation.merge.method import merge_method
from generation.merge.on_steps import StepPlan


@merge_method(acts_on="steps", source="Zhong et al. 2024, arXiv 2402.16843")
def lora_composite(plan: StepPlan) -> Mapping[str, Tensor]:
    """Ask the denoiser once with each LoRA and average the guided and the unguided guesses: k passes per step.

    Guidance is linear, so this is the mean of the LoRAs' guided guesses. A weight scales its LoRA, as in the authors' code, not
    its share of the mean. Text encoders see all LoRAs at once, as there.
    """
    return {
        layer: torch.tensor([[[float(place == now) for place in places]] * plan.steps for now in plan.order])
        for layer, places in plan.layers.items()
    }
