"""Weights of a LoRA per component and per block."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from evalkit.run.file_record import Record

Weight = Annotated[float, Field(ge=-100, le=100)]


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
