"""The duration budget of a test: what exceeds it is listed after every run, and fails nothing."""

from collections import defaultdict
from collections.abc import Iterable

import pytest

# Of one test with its fixtures, on a quiet machine.
BUDGET_SECONDS = 20.0
SHOWN = 20


def over_budget(reports: Iterable[pytest.TestReport], budget: float = BUDGET_SECONDS) -> list[tuple[float, str]]:
    """Return seconds and name of every test that took longer than its budget, the longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        seconds[report.nodeid] += report.duration
    return sorted(((took, name) for name, took in seconds.items() if took > budget), reverse=True)


def summary_lines(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return what is printed after a run of tests."""
    slow = over_budget(reports)
    lines = [f"{len(slow)} tests exceeded the duration budget of {BUDGET_SECONDS:g} s"]
    return lines + [f"{took:6.1f} s  {name}" for took, name in slow[:SHOWN]]
