"""The server is killed and sockets are cut while people judge: nothing acknowledged is lost, doubled or changed."""

from pathlib import Path

import pytest

from benchmarks.study_kill import measure


def test_no_acknowledged_judgment_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    tally, found = measure(tmp_path, judgments=300, kills=3, sessions=6)
    assert tally.kills == 3
    assert tally.cut > 0
    assert len(tally.acknowledged) >= 250
    assert found.judgments == 300
    # an assignment and a judgment each, and what came around them
    assert found.events > 600
    assert found.broken == 0


@pytest.mark.postgres
def test_three_server_processes_on_postgresql_fill_every_place_exactly(tmp_path: Path, postgres_url: str) -> None:
    tally, found = measure(tmp_path, judgments=90, kills=2, sessions=6, url=postgres_url, processes=3)
    assert tally.kills == 2
    assert found.judgments == 90
    assert found.broken == 0
