"""Values in LoRA file headers that describe how a LoRA was trained, for merges that depend on it."""

import json
from typing import Any

from evalkit.errors import UserError
from generation.merge.method_inputs import Layer


def header_values(layer: Layer, key: str, method: str) -> dict[int, Any]:
    """Return the value of `evalkit.<key>` in each LoRA's header, by position in the case.

    Raises:
        UserError: a header has no such value, so the LoRA was not trained with `method`.
    """
    values = {}
    for position, lora in sorted(layer.loras.items()):
        text = lora.header.get(f"evalkit.{key}")
        if text is None:
            raise UserError(
                f"{lora.path}: the header has no evalkit.{key}, so this LoRA was not trained with {method}; train it with "
                "evalkit train, or merge with another method"
            )
        try:
            values[position] = json.loads(text)
        except ValueError as error:
            raise UserError(f"{lora.path}: evalkit.{key} in the header is not valid JSON ({error}); train it again") from error
    return values


def check_same(layer: Layer, values: dict[int, Any], what: str) -> None:
    """Raise a UserError if the LoRAs have different values."""
    different = {json.dumps(value, sort_keys=True) for value in values.values()}
    if len(different) > 1:
        files = ", ".join(f"{layer.loras[position].path.name} {json.dumps(value)}" for position, value in values.items())
        raise UserError(f"{what} differs between the LoRAs of a merge: {files}; train them alike")


def check_apart(layer: Layer, slots: dict[int, Any]) -> None:
    """Raise a UserError if two LoRAs were trained in one slot."""
    owners: dict[Any, int] = {}
    for position, slot in slots.items():
        if slot in owners:
            files = " and ".join(layer.loras[owner].path.name for owner in (owners[slot], position))
            raise UserError(
                f"slot {slot} is taken by {files}; a slot holds one concept: train one of them again in a free slot"
            )
        owners[slot] = position
