"""ZipLoRA: weigh the inputs of a subject and a style so that each is still drawn and no input serves both."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from generation.merge.method import merge_method
from generation.merge.on_input_columns import ColumnObjective
from generation.merge.role_pairs import pair_of


@merge_method(
    acts_on="calibrated",
    source="Shah et al. 2023, arXiv 2311.13600",
    check=pair_of("ziplora", "a subject and a style"),
    needs="columns",
)
def ziplora(
    objective: ColumnObjective,
    *,
    similarity: Annotated[float, Field(ge=0, le=1000)] = 0.01,
    updates: Annotated[int, Field(ge=1, le=10_000)] = 100,
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.01,
) -> Mapping[str, Tensor]:
    """Return Delta_c diag(m_c) + Delta_s diag(m_s), one coefficient per input of a layer, found by `updates` steps of Adam.

    They lower ||D_m(x_c) - D_c(x_c)|| + ||D_m(x_s) - D_s(x_s)|| + similarity * sum_l |m_c . m_s|, D what the denoiser guesses
    with the merge or with one LoRA alone. Coefficients begin at one and go into the first factors, so the result is a LoRA.
    Similarity 0.01 and 100 updates are the paper's; the learning rate, which it leaves open, is ours. So are the images x: what
    each LoRA draws alone stands in for those it was trained on. A layer that one LoRA alone adapts stays as it is.
    """
    weights = list(objective.columns.values())
    search = torch.optim.Adam(weights, lr=learning_rate)
    for update in range(updates):
        search.zero_grad()
        # one error at a time: the graph of one pass through the denoiser is held, not of all
        for error in objective.errors(update):
            error.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        loss = similarity * torch.stack([(first * second).sum().abs() for first, second in weights]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        search.step()
    return {layer: columns.detach() for layer, columns in objective.columns.items()}
