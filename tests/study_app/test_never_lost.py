"""The server is killed and sockets are cut while people judge: nothing acknowledged is lost, doubled or changed."""

from pathlib import Path

from benchmarks.study_kill import measure


def test_no_acknowledged_judgment_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    tally, found = measure(tmp_path, judgments=300, kills=3, sessions=6)
    assert tally.kills == 3
    assert tally.cut > 0
    assert len(tally.acknowledged) >= 250
    assert found.judgments == 300
    assert found.events == 300
    assert found.broken == 0
