"""What the analysis tests share: golden numbers, and studies drawn from a known truth."""

import pytest

from tests.analysis.gold_tables import rows_of
from tests.analysis.study_rows import findings_of, run_of


@pytest.fixture(scope="session")
def gold():
    """Return a check of a value against the golden number of that name, at its stated tolerance."""
    rows = {row["name"]: row for row in rows_of("inference")}

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
