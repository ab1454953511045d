"""Gradient fusion: the weights that reproduce each LoRA's output on its own inputs."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from generation.lora.factors import Factors
from generation.merge.calibration import Moments, rewired, ridged
from generation.merge.method import merge_method
from generation.merge.method_inputs import Layer

Ridge = Annotated[float, Field(gt=0, le=1)]
# What happens to a layer that one LoRA alone adapts.
Alone = Literal["fit", "keep"]


@merge_method(
    acts_on="calibrated",
    source="Gu et al. 2023, arXiv 2305.18292",
    difference=(
        "The authors' L-BFGS of 50 steps is 0.12 from the closed form after 32 inputs per LoRA, 0.59 after 4096 (`python "
        '-m benchmarks.method_variants`); `solver = "lbfgs"` runs theirs. The default stays the closed form: it is the '
        "minimum that L-BFGS approaches."
    ),
)
def gradient_fusion(
    parts: Sequence[Factors],
    layer: Layer,
    moments: Moments,
    *,
    ridge: Ridge = 1e-3,
    solver: Literal["closed", "lbfgs"] = "closed",
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 50,
    alone: Alone = "fit",
) -> Factors:
    """Minimise sum_i || W X_i - (W0 + Delta_i) X_i ||^2, X_i the layer's inputs while LoRA i generates its concept.

    With G = sum_i X_i X_i^T the solution is W0 + sum_i Delta_i X_i X_i^T (G + ridge tr(G) / n)^-1. It is a LoRA, since each
    term keeps its B_i. The ridge regularises towards W0, as early stopping does; 1e-3 is ours. `solver = "lbfgs"` is the
    paper's: L-BFGS from W0 for `iterations` steps (50 there for most layers) without a ridge. It stays in the span of the B_i,
    so its result is a LoRA too. It is 0.12 from the closed form after 32 inputs per LoRA and 0.59 after 4096, on inputs whose
    spectrum falls as 1/n (`python -m benchmarks.method_variants`). The paper calibrates text encoders on its new words only;
    here every position counts, since the denoiser reads all.

    A layer that one LoRA alone adapts is fitted too, so inputs of the other LoRAs shrink it; `alone = "keep"` passes it
    through, as the authors' code does.
    """
    if alone == "keep" and len(parts) == 1:
        return parts[0]
    if solver == "closed":
        return rewired(parts, ridged(moments.own, moments.total, ridge))
    # every step stays in the span of the LoRAs' outputs, so the search runs in coordinates of that span
    basis, inner = torch.linalg.qr(torch.cat([part.up for part in parts], dim=1))
    scale = max(float(moments.total.diagonal().mean()), torch.finfo(torch.float32).tiny)
    gram = moments.total / scale
    wanted = inner @ torch.cat(moments.own) / scale
    change = torch.zeros_like(wanted)
    search = torch.optim.LBFGS(
        [change], max_iter=iterations, history_size=25, tolerance_grad=1e-16, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> float:
        product = change @ gram
        change.grad = 2 * (product - wanted)
        return float((change * (product - 2 * wanted)).sum())

    search.step(loss)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return Factors(change.view(-1, *parts[0].down.shape[1:]), basis)
