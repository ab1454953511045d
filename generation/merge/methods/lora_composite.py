"""LoRA Composite: the mean of the noise predictions with each LoRA."""

from collections.abc import Mapping

import torch
from torch import Tensor

from generation.merge.method import merge_method
from generation.merge.method_inputs import StepPlan


@merge_method(
    acts_on="steps",
    source="Zhong et al. 2024, arXiv 2402.16843",
    difference="The authors' pipeline makes the same passes (0.00 apart).",
)
def lora_composite(plan: StepPlan) -> Mapping[str, Tensor]:
    """Predict once with each LoRA and average the guided and the unguided predictions: k denoiser calls per step.

    Guidance is linear, so this is the mean of the LoRAs' guided predictions. A weight scales its LoRA, as in the authors'
    code, not its share of the mean. Text encoders use all LoRAs at once, as there.
    """
    return {
        layer: torch.tensor([[[float(position == now) for position in positions]] * plan.steps for now in plan.order])
        for layer, positions in plan.layers.items()
    }
