"""Layers of original checkpoints (Black Forest Labs, Stability AI and others) as layers of diffusers' models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Layers by their original name. Several of diffusers' layers own consecutive rows of one original layer.
Renames = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class NativeBlocks:
    """Numbered blocks: the prefix of the original checkpoint, that of diffusers, and the layers of a block."""

    prefix: str
    diffusers: str
    layers: Renames


@dataclass(frozen=True)
class NativeLayer:
    """One layer of an original checkpoint, and the layers of a model whose rows it contains, in order.

    With `swapped`, scale and shift of a modulation are in the other order: the two halves of its rows are exchanged.
    """

    name: str
    layers: tuple[str, ...]
    swapped: bool = False

    @property
    def fused(self) -> bool:
        """Return whether the layer is more than another name of one layer."""
        return self.swapped or len(self.layers) > 1


def native_layers(
    model: Any,  # noqa: ANN401 - diffusers ships no types
    blocks: tuple[NativeBlocks, ...],
    ends: Renames,
    swapped: frozenset[str],
) -> list[NativeLayer]:
    """Return the original layers of which `model` has all parts, and those outside of blocks in `ends`."""
    known = {name for name, _ in model.named_modules()}
    renamed = dict(ends)
    for block in blocks:
        count = len(getattr(model, block.diffusers, ()))
        for number in range(count):
            for name, layers in block.layers.items():
                renamed[f"{block.prefix}.{number}.{name}"] = tuple(f"{block.diffusers}.{number}.{layer}" for layer in layers)
    return [
        NativeLayer(name, layers, any(layer in swapped for layer in layers))
        for name, layers in renamed.items()
        if known.issuperset(layers)
    ]


def projections(prefix: str, *names: str) -> tuple[str, ...]:
    """Return the layers of an attention block that one original layer fuses."""
    return tuple(f"{prefix}.{name}" for name in names)


QKV = ("to_q", "to_k", "to_v")
ADDED_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")
