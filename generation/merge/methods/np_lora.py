"""NP-LoRA: project one LoRA out of the inputs that another one reads."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.lowrank import flat, shaped, side_by_side, thin_svd
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer
from generation.merge.methods.svd import Rank
from generation.merge.role_pairs import pair_of


@merge_method(
    acts_on="weights",
    source="Chen et al. 2025, arXiv 2511.11051",
    check=pair_of("np_lora", "one of them protected"),
    factors_reason="the rank of the protected LoRA states how many inputs it reads; give rank",
    difference="We know of no published code; the paper's equation on dense changes agrees (0.00 apart).",
)
def np_lora(
    parts: Sequence[Factors],
    layer: Layer,
    *,
    mu: Annotated[float, Field(ge=0)] | Literal["hard"] = 0.5,
    protect: Literal["first", "second"] = "second",
    rank: Rank | None = None,
) -> Factors:
    """Add a subject and a style: Delta_s + Delta_c (I - mu / (1 + mu) V V^T), V spanning the inputs that the style reads.

    V contains the first `rank` right singular vectors of the style's change, by default all of them. mu = 0 is the direct
    merge, "hard" its limit: a full projection. `protect` states which concept of the case is the style. The paper writes the
    soft form with V on the left; only the right side fits the shapes. If one LoRA alone adapts a layer, it is unchanged there.
    """
    if len(parts) == 1:
        return parts[0]
    in_order = [part for _, part in sorted(zip(layer.places, parts, strict=True), key=lambda item: item[0])]
    subject, style = in_order if protect == "second" else in_order[::-1]
    basis = thin_svd(flat(style))[2][:, :rank]
    strength = 1.0 if mu == "hard" else mu / (1 + mu)
    free = flat(subject).down
    free = free - strength * (free @ basis) @ basis.T
    return side_by_side([shaped(free, subject.up, subject), style])
