"""B-LoRA: each LoRA acts in separate blocks."""

from collections.abc import Sequence
from typing import Any

from evalkit.errors import UserError
from generation.lora.factors import Factors
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer

Blocks = tuple[str | tuple[str, ...], ...]
CONTENT, STYLE = "unet.up_blocks.0.attentions.0", "unet.up_blocks.0.attentions.1"


def check_blocks(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError if the number of entries differs from the number of LoRAs."""
    if len(settings.blocks) != count:
        raise ValueError(
            f"blocks has {len(settings.blocks)} entries, a case merges {count} LoRAs; give one block, or a list, per LoRA"
        )


@merge_method(
    acts_on="weights",
    source="Frenkel et al. 2024, arXiv 2403.14572",
    check=check_blocks,
    difference=(
        "The authors' code multiplies a weight into both factors, so that a LoRA of weight 0.5 acts at 0.25: 0.50 apart "
        "there, 0.00 at weight 1."
    ),
)
def b_lora(parts: Sequence[Factors], layer: Layer, *, blocks: Blocks = (CONTENT, STYLE)) -> Factors:
    """Let each LoRA act only in its own blocks, in the order of a case's concepts.

    An entry of `blocks` is the beginning of layer names, or a list of them. A LoRA acts in no other layer. The default is the
    paper's for SDXL: content blocks for the first concept, style blocks for the second. The paper also trains LoRAs in these
    blocks only; this method accepts any LoRA.

    Raises:
        UserError: a LoRA adapts no layer in its blocks.
    """
    for position, lora in layer.loras.items():
        names = lora.layers
        if not any(_inside(name, blocks[position]) for name in names):
            raise UserError(
                f"b_lora: LoRA {position + 1} of the case adapts no layer in {blocks[position]!r}; "
                f"its first layer is {names[0]}; "
                "give blocks that this model and LoRA have"
            )
    placed = zip(layer.places, parts, strict=True)
    placed = zip(layer.places, parts, strict=True)
    acting = [part for position, part in placed if _inside(layer.name, blocks[position])]
    none = Factors(parts[0].down[:0], parts[0].up[:, :0])
    return side_by_side(acting or [none])


def _inside(name: str, block: str | tuple[str, ...]) -> bool:
    prefixes = (block,) if isinstance(block, str) else block
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
