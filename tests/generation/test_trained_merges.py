"""Merges that rest on how LoRAs were trained: slots of rows, a shared basis; and the averages they stand beside."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evalkit.errors import UserError
from generation.lora.factors import Factors, Lora
from generation.merge.method_inputs import Layer
from generation.merge.methods import MERGE_METHODS
from tests.merging import INPUTS, OUTPUTS, close, lora_parts, merged, plain_sum

NAME = "unet.mid_block.to_q"


def merge_with(method: str, parts: Sequence[Factors], notes: Sequence[dict[str, Any]], **parameters: Any) -> Tensor:
    """Merge LoRAs whose headers say `notes`."""
    loras = {
        place: Lora(
            Path(f"{place}.safetensors"), "", {NAME: part}, {NAME: 1.0},
            {f"evalkit.{key}": json.dumps(value) for key, value in said.items()},
        )
        for place, (part, said) in enumerate(zip(parts, notes, strict=True))
    }  # fmt: skip
    found = MERGE_METHODS[method]
    layer = Layer(NAME, 0, [1.0] * len(parts), range(len(parts)), loras)
    result: Factors = found.function(parts, layer, **found.settings(parameters).model_dump())
    return result.dense()


def in_slots(slots: Sequence[int], of: int = 4) -> list[Factors]:
    """Return LoRAs that change every `of`-th row only."""
    return [
        Factors(part.down, part.up * (torch.arange(OUTPUTS) % of == slot)[:, None])
        for part, slot in zip(lora_parts([3] * len(slots)), slots, strict=True)
    ]


def block(slot: int, slots: int = 4, rule: str = "strided") -> dict[str, Any]:
    return {"slot": slot, "slots": slots, "block_rule": rule}


def test_rows_of_a_slot_act_as_trained_or_at_their_share() -> None:
    parts, notes = in_slots((0, 2)), [block(0), block(2)]
    whole = merge_with("blocklora", parts, notes, weights="sum")
    for slot, part in zip((0, 2), parts, strict=True):
        assert torch.equal(whole[slot::4], part.dense()[slot::4])
    assert not whole[1::2].any()
    assert close(merge_with("blocklora", parts, notes), whole / 2)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ([block(1), block(1)], r"slot 1 is taken by 0.safetensors and 1.safetensors"),
        (
            [block(0), block(2, 8)],
            r"slots: the number of row blocks differs .* 0.safetensors 4, 1.safetensors 8",
        ),
        ([block(0), block(2, rule="heads")], r"block_rule: how rows are cut into blocks differs"),
        ([block(0), {}], r"1.safetensors: the header has no evalkit.slot, so this LoRA was not trained with BlockLoRA"),
        ([block(0), block(3)], rf"{NAME}: 0.safetensors and 1.safetensors change the same rows"),
    ],
)
def test_slots_that_do_not_fit_are_refused(notes: list[dict[str, Any]], message: str) -> None:
    parts = in_slots((0, 0)) if notes[1].get("slot") == 3 else in_slots((0, 2))
    with pytest.raises(UserError, match=message):
        merge_with("blocklora", parts, notes)


def basis(slot: int | None, sha: str | None = None) -> dict[str, Any]:
    sums = {str(INPUTS): sha or "same"}
    return {"basis": {"rows": "random" if slot is None else "slots", "slot": slot, "sha256": sums}}


def on_basis(*rows: tuple[int, int]) -> list[Factors]:
    """Return LoRAs that read the rows of these slots and ranks."""
    return [
        Factors(torch.eye(INPUTS)[slot * rank : (slot + 1) * rank], part.up)
        for (slot, rank), part in zip(rows, lora_parts([rank for _, rank in rows]), strict=True)
    ]


def test_loras_of_one_basis_are_added_at_the_paper_s_scale() -> None:
    parts = on_basis((0, 4), (2, 4))
    result = merge_with("orthogonal_adaptation", parts, [basis(0), basis(2)])
    assert close(result, 0.6 * plain_sum(parts))
    assert close(merge_with("orthogonal_adaptation", parts, [basis(0), basis(2)], scale=1), plain_sum(parts))
    # on inputs of one LoRA alone, the other one is silent
    own = parts[0].down[0]
    assert close(result @ own, 0.6 * parts[0].dense() @ own)
    random = lora_parts((3, 3))
    assert close(merge_with("orthogonal_adaptation", random, [basis(None), basis(None)]), 0.6 * plain_sum(random))


@pytest.mark.parametrize(
    ("rows", "notes", "message"),
    [
        (((0, 4), (0, 4)), (basis(0), basis(0)), "slot 0 is taken by 0.safetensors and 1.safetensors"),
        (((0, 4), (1, 4)), (basis(0), basis(1, "other")), rf"{NAME}: the basis of {INPUTS} inputs differs between the LoRAs"),
        (((0, 4), (1, 4)), (basis(0), {"basis": {"slot": 1}}), rf"has no basis of {INPUTS} inputs"),
        (((0, 4), (1, 4)), (basis(0), basis(None)), "basis: random rows or slots differs"),
        (((0, 4), (1, 2)), (basis(0), basis(1)), "read common inputs although their slots differ; train them at one rank"),
        (((0, 4), (1, 4)), (basis(0), {}), "has no evalkit.basis, so this LoRA was not trained with Orthogonal Adaptation"),
    ],
)
def test_bases_that_do_not_fit_are_refused(
    rows: Sequence[tuple[int, int]], notes: Sequence[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        merge_with("orthogonal_adaptation", on_basis(*rows), notes)


def test_averages_and_sums_under_the_names_people_know() -> None:
    parts = lora_parts()
    assert torch.equal(merged("cat", parts), merged("direct", parts))
    assert torch.equal(merged("mix_of_show", parts), merged("fedavg", parts))
