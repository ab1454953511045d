"""B-LoRA: every LoRA acts in blocks of its own."""

from collections.abc import Sequence
from typing import Any

from evalkit.errors import UserError
from generation.lora_file import Factors
from generation.merge.layer import Layer
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method

Blocks = tuple[str | tuple[str, ...], ...]
CONTENT, STYLE = "unet.up_blocks.0.attentions.0", "unet.up_blocks.0.attentions.1"


def check_blocks(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError where there are not as many entries as LoRAs."""
    if len(settings.blocks) != count:
        raise ValueError(
            f"blocks has {len(settings.blocks)} entries, a case merges {count} LoRAs; give one block, or a list, per LoRA"
        )


@merge_method(acts_on="weights", source="Frenkel et al. 2024, arXiv 2403.14572", check=check_blocks)
def b_lora(parts: Sequence[Factors], layer: Layer, *, blocks: Blocks = (CONTENT, STYLE)) -> Factors:
    """Let each LoRA act in the blocks given for it alone, in the order of a case's concepts.

    An entry is the beginning of layers' names, or a list of such; a LoRA acts in no other layer. The default is the paper's for
    SDXL: the first concept's content and the second one's style. The paper also trains its LoRAs in these blocks only.

    Raises:
        UserError: a LoRA has no layer in its blocks.
    """
    for place, lora in layer.loras.items():
        names = sorted(lora.factors)
        if not any(_inside(name, blocks[place]) for name in names):
            raise UserError(
                f"b_lora: LoRA {place + 1} of the case adapts no layer in {blocks[place]!r}; its first layer is {names[0]}; "
                "give blocks that this model and LoRA have"
            )
    acting = [part for place, part in zip(layer.places, parts, strict=True) if _inside(layer.name, blocks[place])]
    none = Factors(parts[0].down[:0], parts[0].up[:, :0])
    return side_by_side(acting or [none])


def _inside(name: str, block: str | tuple[str, ...]) -> bool:
    prefixes = (block,) if isinstance(block, str) else block
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
