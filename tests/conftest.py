"""What every test shares: no hub, no stray threads, and where the real data lies."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.databases import database, database_url, migrated_file, postgres_server, postgres_url  # noqa: F401 -- fixtures
from tests.duration_budget import summary_lines
from tests.served import browser  # noqa: F401 -- a fixture

REPOSITORY = Path(__file__).parents[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tests that exceeded the duration budget."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind if isinstance(report, pytest.TestReport)]
    terminalreporter.section("duration budget")
    for line in summary_lines(reports):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real photos and SDXL merges; skip, saying so, where it is absent."""
    folder = Path(os.environ.get("EVALKIT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set EVALKIT_DATA")
    return folder
