"""Check for methods that merge two LoRAs in two roles."""

from collections.abc import Callable
from typing import Any


def pair_of(method: str, roles: str) -> Callable[[int, Any], None]:
    """Return a check that raises a ValueError if a case does not merge two LoRAs."""

    def check(count: int, settings: Any) -> None:  # noqa: ANN401 - a model made from a signature
        if count != 2:
            raise ValueError(f"{method} merges 2 LoRAs, {roles}; a case has {count}")

    return check
