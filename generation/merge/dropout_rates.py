"""Dropout rates: one for all LoRAs of a case, or one each."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator

from generation.merge.dropout_masks import TOLERANCE


def _rates(value: object) -> float | tuple[float, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("the list of dropout rates is empty; give one rate, or one per LoRA")
        return tuple(_rate(item) for item in value)
    return _rate(value)


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{value!r} is not a dropout rate; give a number in [0, 1)")
    return float(value)


Rates = Annotated[float | tuple[float, ...], BeforeValidator(_rates)]


def expand(p: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return one rate for each of `count` LoRAs; raise a ValueError if a list has another length."""
    if isinstance(p, tuple):
        if len(p) != count:
            raise ValueError(f"p lists {len(p)} rates, a case merges {count} LoRAs; give one number, or one per LoRA")
        return p
    return (p,) * count


def check_count(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError if the rates are not one per LoRA."""
    expand(settings.p, count)


def check_disjoint(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
    """Raise a ValueError, with a rate that fits, if `count` LoRAs cannot keep their shares without overlap.

    Rates are feasible if sum(1 - p) <= 1, up to float tolerance (OMCD paper, section 3).
    """
    rates = expand(settings.p, count)
    total = sum(1 - rate for rate in rates)
    if total <= 1 + TOLERANCE:
        return
    enough = math.ceil((1 - 1 / count) * 1e4) / 1e4
    if isinstance(settings.p, tuple):
        raise ValueError(
            f"p = {list(rates)}: {count} LoRAs cannot keep {total:.3g} of the outputs together without overlap; "
            f"the rates must add up to {count - 1} or more, such as {enough:g} each"
        )
    raise ValueError(
        f"p = {rates[0]:g}: {count} LoRAs cannot keep {1 - rates[0]:.3g} of the outputs each without overlap; "
        f"set p to {enough:g} or more"
    )
