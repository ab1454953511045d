"""KnOTS: align all LoRAs in one output basis before merging entries."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from generation.lora.factors import Factors
from generation.merge.elementwise import (
    Density,
    Trim,
    agreeing_mean,
    combined,
    keep_above,
    keep_at_random,
    keep_largest,
    largest_bounds,
    row_blocks,
)
from generation.merge.lowrank import axes, shaped
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer


def check_operator(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError if random entries would be trimmed over the whole model."""
    if settings.trim == "model" and settings.operator != "ties":
        raise ValueError('trim = "model" compares the largest entries; it needs operator = "ties"')


@merge_method(
    acts_on="weights",
    source="Stoica et al. 2025, arXiv 2410.19735",
    check=check_operator,
    difference=(
        'The authors trim over the whole model, 0.32 from the default at density 0.2, 0.00 with `trim = "model"`; their '
        "configurations multiply the result by 0.6 for vision models and search this factor per task."
    ),
)
def knots(
    parts: Sequence[Factors],
    layer: Layer,
    *,
    operator: Literal["ties", "dare_ties"] = "ties",
    density: Density = 0.5,
    trim: Trim = "layer",
) -> Factors:
    """Decompose [Delta_1 ... Delta_k] = U S [V_1 ... V_k], merge the S V_j by `operator`, and return U times the result.

    `density` has the meaning it has in `ties` and `dare_ties`; the paper searches it per task, the default is ours. U comes
    from an R x R matrix, R the sum of ranks, never from dense changes. A LoRA that is alone in a layer is pruned in its own
    basis. With `trim = "model"` the entries of S V_j are compared over the LoRA's whole model and U belongs to the LoRAs
    without their weights, both as in the authors' code.
    """
    if trim == "layer":
        left, rotated = _rotated(parts)
        prune = keep_largest(density) if operator == "ties" else keep_at_random(density, layer.generator())
        return shaped(combined(rotated, prune, agreeing_mean), left, parts[0])
    weights = layer.part_weights
    left, rotated = _rotated([layer.loras[position].part(layer.name) for position in layer.places])
    weighted = [Factors(part.down, part.up * weight) for part, weight in zip(rotated, weights, strict=True)]
    bounds = _bounds(layer, density)
    prunes = [keep_above(bounds[position] * abs(weight)) for position, weight in zip(layer.places, weights, strict=True)]
    return shaped(combined(weighted, prunes, agreeing_mean), left, parts[0])


def _rotated(parts: Sequence[Factors]) -> tuple[Tensor, list[Factors]]:
    """Return U, and S V_j of every LoRA as factors."""
    # Delta_j = up_j R_j^T Q_j^T with down_j^T = Q_j R_j: the Q_j turn no left singular vector
    turned = [torch.linalg.qr(part.down.flatten(1).T.cpu()) for part in parts]
    ups = [part.up.cpu() @ lower.T for part, (_, lower) in zip(parts, turned, strict=True)]
    left, inner = axes(torch.cat(ups, dim=1))
    pieces = torch.split(inner, [up.shape[1] for up in ups], dim=1)
    return left, [Factors(right.T, piece) for (right, _), piece in zip(turned, pieces, strict=True)]


def _bounds(layer: Layer, density: float) -> dict[int, float]:
    """Return the bound of each LoRA's entries over the whole model, computed once per merge."""
    positions = sorted(layer.loras)
    keys = {position: ("rotated bound", str(position), str(density)) for position in positions}
    if any(key not in layer.shared for key in keys.values()):
        names = sorted({name for lora in layer.loras.values() for name in lora.layers if name not in lora.parameters})

        def blocks() -> Iterator[tuple[int, Tensor]]:
            for name in names:
                adapting = [position for position in positions if name in layer.loras[position].layers]
                rotated = _rotated([layer.loras[position].part(name) for position in adapting])[1]
                for position, part in zip(adapting, rotated, strict=True):
                    yield from ((position, block) for block in row_blocks(part))

        found = largest_bounds(blocks, density)
        layer.shared.update({key: found.get(position, 0.0) for position, key in keys.items()})
    return {position: layer.shared[key] for position, key in keys.items()}
