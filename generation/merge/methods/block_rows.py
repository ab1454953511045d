"""Random row blocks: each output channel of a layer belongs to one LoRA for the whole run."""

from collections.abc import Sequence

from generation.lora.factors import Factors
from generation.merge.dropout_masks import MaskDraws, channel_words, row_words
from generation.merge.lowrank import side_by_side
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.orthogonal_mc_dropout import orthogonal_mc_dropout
from generation.seeds import derived


@merge_method(
    acts_on="weights",
    source="rows as in BlockLoRA (Zhu et al. 2025, section 3.3), for LoRAs trained without blocks; the draw is ours",
    difference=(
        "No code to compare with: the method is ours. Rows of 1/k of the channels times k keep the LoRAs' squared norm on "
        "average (0.02 apart)."
    ),
)
def block_rows(parts: Sequence[Factors], layer: Layer, *, rescale: bool = True) -> Factors:
    """Assign each row of the weight to one of the case's k LoRAs at random and multiply the LoRA's row by k.

    The result equals `orthogonal_mc_dropout` with `static` masks and p = 1 - 1/k bit by bit: rows are orthogonal and no signs
    conflict. Without `rescale`, rows keep their trained size, as in BlockLoRA's merge with weights of 1. A LoRA that is alone
    in a layer still acts only in its share of the rows.
    """
    up = parts[0].up
    channels = channel_words(layer.name, up.shape[0], 0, up.device)
    draws = MaskDraws(row_words([derived("row", layer.seed, 0, 0, 0)], 1, up.device), [channels], up.dtype)
    gains = orthogonal_mc_dropout.function(draws, [1 - 1 / layer.count] * len(parts))
    if not rescale:
        gains = [(gain != 0).to(gain) for gain in gains]
    return side_by_side([Factors(part.down, part.up * gain[0][:, None]) for part, gain in zip(parts, gains, strict=True)])
