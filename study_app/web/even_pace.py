"""Even response times: the time a page takes must not tell what was looked up for it."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
# Longer than a page turn takes on an idle machine, and far below what a participant notices.
GRID_SECONDS = 0.04


def evenly(work: Callable[[], Result]) -> Result:
    """Return the result of `work` at the next multiple of 40 ms after its start."""
    start = time.monotonic()
    result = work()
    elapsed = time.monotonic() - start
    time.sleep(max(0.0, math.ceil(elapsed / GRID_SECONDS) * GRID_SECONDS - elapsed))
    return result
