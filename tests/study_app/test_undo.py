"""Taking back one's last judgment: once, while fresh, with nothing forgotten and no place lost."""

from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select, update

from db.models import Answer, Assignment, Comparison, Judgment, Withdrawal
from db.session import read, write
from db.utc import utc_now
from study_app.plan.design import Design
from study_app.service.assignment import LEASE
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.study_app.conftest import begin


def test_a_judgment_taken_back_is_asked_again_and_nothing_is_forgotten(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=2, also_ask=("quality",)))
    service, participant = StudyService(database, study.run), study.join()
    first = service.trial(participant)
    assert first.undoable is None
    service.answer(participant, first, "left", Timing(reaction_ms=700))
    service.answer(participant, service.trial(participant), "right", Timing())
    second = service.trial(participant)
    assert second.undoable == first.owner
    assert service.undo(participant, first.owner)
    # a second click takes back nothing more
    assert not service.undo(participant, first.owner)
    again = service.trial(participant)
    assert (again.owner, again.images, again.question) == (first.owner, first.images, "overall")
    with read(database) as session:
        assert session.scalar(select(func.count()).select_from(Judgment)) == 0
        assert session.scalar(select(func.count()).select_from(Answer)) == 0
        rows = session.execute(select(Withdrawal.question, Withdrawal.choice, Withdrawal.reaction_ms)).all()
        assert sorted(tuple(row) for row in rows) == [("overall", "left", 700), ("quality", "right", None)]
        held = {row.id: row.filled for row in session.execute(select(Comparison.id, Comparison.filled))}
        live = session.scalars(select(Assignment.comparison_id).where(Assignment.state.in_(("open", "done")))).all()
        assert held == {comparison: live.count(comparison) for comparison in held}
    service.answer(participant, again, "right", Timing())
    service.answer(participant, service.trial(participant), "right", Timing())
    # what had been handed out meanwhile comes back
    assert service.trial(participant).owner == second.owner


def test_only_a_fresh_judgment_of_ones_own_can_be_taken_back(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design())
    service, participant, other = StudyService(database, study.run), study.join(), study.join()
    first = service.trial(participant)
    service.answer(participant, first, "left", Timing())
    assert not service.undo(other, first.owner)
    with write(database) as session:
        session.execute(update(Judgment).values(judged_at=utc_now() - LEASE - timedelta(seconds=1)))
    assert not service.undo(participant, first.owner)
    assert service.trial(participant).undoable is None
