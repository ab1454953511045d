"""LoRA Switch: one LoRA at a time, in turn."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from generation.merge.method import merge_method
from generation.merge.method_inputs import StepPlan


@merge_method(
    acts_on="steps",
    source="Zhong et al. 2024, arXiv 2402.16843",
    difference=(
        "The authors' callback uses the same LoRA at every step (0.00 of steps differ), but at weight 1 from the first "
        "switch on; here LoRAs keep their weights."
    ),
)
def lora_switch(plan: StepPlan, *, tau: Annotated[int, Field(ge=1)] = 5) -> Mapping[str, Tensor]:
    """Let each LoRA act alone for `tau` steps, in the order of a case's concepts, in rotation.

    The paper puts characters first and reports that the order matters. Text encoders use the first LoRA only, as in the
    authors' code. A step of a second-order sampler counts once.
    """
    turn = [plan.order[step // tau % len(plan.order)] for step in range(plan.steps)]
    return {
        layer: torch.tensor([[[float(position == now) for position in positions] for now in turn]])
        for layer, positions in plan.layers.items()
    }
