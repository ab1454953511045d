"""Machine judges in the schema: their calls take no place of people, enter no contrast, and exist once per order."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from db.models import Assignment, Comparison, DatabaseTable, JudgeCall, Judgment, MachineJudge, Participant
from db.run_loader import load_run
from db.session import Database, read, write
from db.utc import utc_now
from tests.analysis.study_rows import add_judgments
from tests.runs import make_run

PEOPLE = {"participants", "assignments", "judgments", "answers", "checks", "events", "withdrawals"}


@pytest.fixture
def study(database: Database, tmp_path) -> tuple[int, int]:
    """Return the ids of a run and of its study, which people have judged."""
    make_run(tmp_path / "run", arms=("plain", "fancy"), scores=False)
    run_id = load_run(database, tmp_path / "run").run_id
    add_judgments(database, run_id, per_comparison=3, people=4)
    with read(database) as session:
        return run_id, session.scalars(select(Comparison.study_id)).first()


def judge(study_id: int, name: str = "contrary") -> MachineJudge:
    return MachineJudge(
        study_id=study_id, name=name, kind="pairwise", endpoint="http://127.0.0.1:1/v1", model="m", parameters={},
        template="t", template_sha256="0" * 64, wording_sha256="0" * 64, people_events=0, people_sha256="0" * 64,
        began_at=utc_now(), sha256="1" * 64,
    )  # fmt: skip


def call(judge_id: int, comparison_id: int, number: int | None, **changes) -> JudgeCall:
    values = {
        "judge_id": judge_id, "comparison_id": comparison_id, "question": "overall", "swapped": 0, "repetition": 0,
        "state": "answered", "choice": "second", "requests": 1, "request_sha256": "0" * 64, "response": {},
        "asked_at": utc_now(), "answered_at": utc_now(), "number": number, "sha256": f"{number or 0:064x}",
    }  # fmt: skip
    return JudgeCall(**{**values, **changes})


def test_a_judges_calls_fill_no_place_and_enter_no_contrast_about_people(database: Database, study):
    run_id, study_id = study

    def people():
        with read(database) as session:
            filled = session.execute(select(Comparison.id, Comparison.filled).order_by(Comparison.id)).all()
            rows = [len(session.scalars(select(table.id)).all()) for table in (Participant, Assignment, Judgment)]
        data = read_run(database, run_id)
        return filled, rows, data.judgments, analyze_run(data).records()

    before = people()
    with write(database) as session:
        machine = judge(study_id)
        session.add(machine)
        session.flush()
        comparisons = session.scalars(select(Comparison.id).order_by(Comparison.id)).all()
        calls = [(comparison, swapped) for comparison in comparisons for swapped in (0, 1)]
        session.add_all(
            call(machine.id, comparison, number, swapped=swapped) for number, (comparison, swapped) in enumerate(calls, 1)
        )
    after = people()
    assert after[:2] == before[:2]
    assert after[2].equals(before[2])
    assert after[3] == before[3]


def test_no_table_of_people_refers_to_a_judge_nor_a_judge_to_people():
    for table in DatabaseTable.metadata.sorted_tables:
        targets = {key.column.table.name for key in table.foreign_keys}
        if table.name in PEOPLE:
            assert not targets & {"machine_judges", "judge_calls"}, table.name
        if table.name in {"machine_judges", "judge_calls"}:
            assert not targets & PEOPLE, table.name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"swapped": 2},
        {"swapped": 1, "choice": "left"},
        {"swapped": 1, "state": "refused"},
        {"swapped": 1, "choice": None},
        {"swapped": 1, "state": "open", "choice": None},
    ],
    ids=["twice", "third order", "a side", "refused with a choice", "answered without", "open with a number"],
)
def test_impossible_calls_are_refused_by_the_database(database: Database, study, changes: dict):
    with write(database) as session:
        machine = judge(study[1])
        session.add(machine)
        session.flush()
        comparison = session.scalars(select(Comparison.id)).first()
        session.add(call(machine.id, comparison, 1))
        identifier = machine.id
    with pytest.raises(IntegrityError), write(database) as session:
        session.add(call(identifier, comparison, 2, **changes))
