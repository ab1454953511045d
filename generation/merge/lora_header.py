"""What a LoRA file's header says of its training, for merges that rest on it."""

import json
from typing import Any

from evalkit.errors import UserError
from generation.merge.layer import Layer


def noted(layer: Layer, key: str, trained: str) -> dict[int, Any]:
    """Return what each LoRA's header says under `evalkit.<key>`, by place in the case.

    Raises:
        UserError: a header says nothing, so that the LoRA was not `trained` that way.
    """
    found = {}
    for place, lora in sorted(layer.loras.items()):
        text = lora.header.get(f"evalkit.{key}")
        if text is None:
            raise UserError(
                f"{lora.path}: its header has no evalkit.{key}, so it is no LoRA {trained}; train it with evalkit train, or "
                "merge with another method"
            )
        try:
            found[place] = json.loads(text)
        except ValueError as error:
            raise UserError(f"{lora.path}: evalkit.{key} in its header is no JSON: {error}") from error
    return found


def check_same(layer: Layer, said: dict[int, Any], what: str) -> None:
    """Raise a UserError where the LoRAs do not say the same."""
    if len(values := {json.dumps(value, sort_keys=True) for value in said.values()}) > 1:
        files = ", ".join(f"{layer.loras[place].path.name} {json.dumps(value)}" for place, value in said.items())
        raise UserError(f"{what} must be one for all LoRAs of a merge, not {len(values)}: {files}; train them alike")


def check_apart(layer: Layer, slots: dict[int, Any]) -> None:
    """Raise a UserError where two LoRAs were trained in one slot."""
    owners: dict[Any, int] = {}
    for place, slot in slots.items():
        if slot in owners:
            files = " and ".join(layer.loras[owner].path.name for owner in (owners[slot], place))
            raise UserError(
                f"slot {slot} is taken by {files}; a slot holds one concept: train one of them again in a free slot"
            )
        owners[slot] = place
