"""Weights of a LoRA per component, per block and per denoising step."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evalkit.run.file_record import Record

Weight = Annotated[float, Field(ge=-100, le=100)]


class WeightSchedule(Record):
    """Multiplier of a LoRA's weights in the denoiser by step: from `start` to `end` along a curve.

    `start_percent` and `end_percent` are shares of the steps from 0 to 1, as in ComfyUI: the LoRA acts from the first up to the
    second, and not outside. Text encoders run once, before the first step, at the unscheduled weight.
    """

    start: Weight = 1.0
    end: Weight = 1.0
    curve: Literal["linear", "cosine"] = "linear"
    start_percent: Annotated[float, Field(ge=0, lt=1)] = 0.0
    end_percent: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> "WeightSchedule":
        if self.start_percent >= self.end_percent:
            raise ValueError(f"start_percent = {self.start_percent:g} is not below end_percent = {self.end_percent:g}")
        return self

    def multipliers(self, steps: int) -> list[float]:
        """Return the multiplier at each of `steps` steps; `start` holds at the first active step, `end` at the last."""
        first, last = math.ceil(self.start_percent * steps), math.ceil(self.end_percent * steps) - 1
        values = []
        for step in range(steps):
            share = (step - first) / (last - first) if last > first else 0.0
            if self.curve == "cosine":
                share = (1 - math.cos(math.pi * share)) / 2
            values.append(self.start + (self.end - self.start) * share if first <= step <= last else 0.0)
        return values


class LayerWeights(Record):
    """Weights of one LoRA by component, and by blocks of layers, which take precedence.

    A key of `blocks` is the beginning of a layer's name, with its component, or within the denoiser ("up_blocks.0").
    The longest matching key holds. Layers without a weight of their component have weight 1.
    """

    unet: Weight | None = None
    transformer: Weight | None = None
    text_encoder: Weight | None = None
    text_encoder_2: Weight | None = None
    text_encoder_3: Weight | None = None
    blocks: Mapping[str, Weight] = Field(default_factory=dict)
    # multiplies the weights in the denoiser, by step
    schedule: WeightSchedule | None = Field(default=None, exclude_if=lambda schedule: schedule is None)

    def at(self, layer: str) -> float:
        """Return the weight of a layer."""
        component, _, name = layer.partition(".")
        matches = {
            len(prefix): weight
            for prefix, weight in self.blocks.items()
            if _begins(layer, prefix) or (not component.startswith("text_encoder") and _begins(name, prefix))
        }
        if matches:
            return matches[max(matches)]
        weight: float | None = getattr(self, component, None)
        return 1.0 if weight is None else weight


def weight_at(weight: float | LayerWeights, layer: str) -> float:
    """Return the weight of a layer, from one number for all layers or from weights by layer."""
    return weight.at(layer) if isinstance(weight, LayerWeights) else weight


def as_plain(weight: float | LayerWeights) -> float | dict[str, Any]:
    """Return a weight as JSON values."""
    return weight.model_dump(exclude_none=True) if isinstance(weight, LayerWeights) else weight


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
