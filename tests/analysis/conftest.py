"""What the analysis tests share: golden numbers, and studies drawn from a known truth."""

import csv
from pathlib import Path

import pytest

from tests.analysis.study_rows import findings_of, run_of

GOLD = Path(__file__).parent / "gold"


@pytest.fixture(scope="session")
def gold():
    """Return a check of a value against the golden number of that name, at its stated tolerance."""
    with (GOLD / "inference.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}

    def check(name: str, value: float) -> None:
        row = rows[name]
        assert value == pytest.approx(float(row["value"]), abs=float(row["tolerance"])), f"{name}: {row['source']}"

    return check


@pytest.fixture(scope="session")
def judged(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("judged") / "run")


@pytest.fixture(scope="session")
def found(judged):
    return findings_of(judged)
