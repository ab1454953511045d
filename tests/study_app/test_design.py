"""The design file: checked at the door, frozen by its hash, and carried out."""

import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import schema
from db.models import Assignment, Judgment, Study
from db.session import default_url, open_database, read
from evalkit.errors import UserError
from study_app.plan.audit_log import sha256_of
from study_app.plan.comparisons import plan_comparisons
from study_app.plan.design import Checks, Design, Selection, read_design
from study_app.plan.initialize import begin_study
from study_app.plan.texts import ALSO_ASK
from study_app.service.study import StudyService
from study_app.simulation.people import Behaviour, simulate
from tests.runs import make_run
from tests.study_app.conftest import begin
from tests.study_app.test_assignment import judge_next
from tests.study_app.test_command import call

FULL = """
per_comparison = 3
per_participant = 40
cannot_tell = true
also_ask = ["each_concept", "quality"]
minimum_seconds = 1.5
plan_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

[comparisons]
pairs = [["direct", "orthogonal_mc_dropout"]]
sample = 4

[checks]
null_pairs = 0.05
gold = 0.02

[[gold]]
case = "star-ring"
seed = 0
better = "orthogonal_mc_dropout"
worse = "direct"

[sessions]
break_every = 50
most = 200
"""


def test_a_whole_design_is_read_and_begun(tmp_path: Path) -> None:
    make_run(tmp_path, scores=False)
    (tmp_path / "study.toml").write_text(FULL)
    said = call("init", tmp_path)
    assert "study begun: 4 comparisons, 3 participants each" in said
    design = read_design(tmp_path)
    database = open_database(default_url(tmp_path))
    with read(database) as session:
        sha256 = session.scalars(select(Study.design_sha256)).one()
        assert f"design {sha256}" in said
        assert sha256_of(session.scalars(select(Study.design)).one()) == sha256
        assert Design.of(session.scalars(select(Study)).one()) == design
    database.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per_comparision = 5", "study.toml: per_comparision: unknown key"),
        ("per_comparison = 0", "per_comparison: must be at least 1, not 0"),
        ("[checks]\nnull_pairs = 0.9", "checks.null_pairs: must be at most 0.5, not 0.9"),
        ("[checks]\ngold = 0.1", "checks.gold: needs comparisons whose answer is known"),
        ("same_people = true\nper_participant = 3", "give one of same_people and per_participant"),
        ("per_comparison = ", "is not valid TOML"),
        ("plan_sha256 = '79243c'", "plan_sha256: '79243c' must match ^[0-9a-f]{64}$"),
        ("[comparisons]\narms = ['direct', 'dair']", "comparisons.arms: the run has no arm 'dair'; known: direct, mc_dropout"),
        ("[comparisons]\narms = ['direct']", "a comparison needs two arms"),
        ("[comparisons]\ncases = ['x']", "the run has no case 'x'; the first ones: star-ring"),
        ("[comparisons]\nsample = 99", "comparisons.sample 99: there are 6 cells"),
        ("[comparisons]\npairs = [['direct', 'direct']]", "each must be two different arms"),
        ("also_ask = ['beauty']", "also_ask: has no question 'beauty'; choose from each_concept, quality"),
        ("language = 'xx'", "language 'xx': has no texts"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    make_run(tmp_path, scores=False)
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        call("init", tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_page_of_the_study_names_every_further_question() -> None:
    page = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^also_ask = .*$", page, re.MULTILINE)
    missing = [name for name in ALSO_ASK if f'"{name}"' not in line]
    assert not missing, f"docs/study.md does not name {missing}; add them to the comment of also_ask"


def test_a_changed_file_is_refused_once_people_came_and_options_beside_it_always(tmp_path: Path) -> None:
    make_run(tmp_path, scores=False)
    (tmp_path / "study.toml").write_text("per_comparison = 2\n")
    with pytest.raises(UserError, match="set per_comparison in it instead of giving options"):
        call("init", tmp_path, "--per-comparison", 4)
    call("simulate", tmp_path, "--participants", 1)
    (tmp_path / "study.toml").write_text("# said differently, but the same\nper_comparison = 2\n")
    call("simulate", tmp_path, "--participants", 1)
    (tmp_path / "study.toml").write_text("per_comparison = 3\n")
    for command in ("init", "serve", "simulate"):
        with pytest.raises(UserError, match=r"its design is frozen \(per_comparison 2 -> 3\)"):
            call(command, tmp_path)


def test_a_sample_takes_cases_equally_often_and_the_same_cells_for_every_pair(tmp_path: Path) -> None:
    manifest = make_run(tmp_path, concepts=4, seeds=3, scores=False)
    plan = plan_comparisons(manifest, 1, Selection(sample=9))
    assert len(plan) == 9 * 3
    assert set(Counter(p.case for p in plan if p.arms == ("direct", "mc_dropout")).values()) == {1, 2}
    cells = [{(p.case, p.seed) for p in plan if p.arms == pair} for pair in {p.arms for p in plan}]
    assert all(cell == cells[0] for cell in cells)
    assert plan == plan_comparisons(manifest, 1, Selection(sample=9))
    assert plan != plan_comparisons(manifest, 2, Selection(sample=9))


def test_one_person_judges_no_more_than_the_design_lets_them(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_participant=2))
    participant = study.join()
    service = StudyService(database, study.run)
    assert service.trial(participant).total == 2
    assert [judge_next(study, participant) is None for _ in range(3)] == [False, False, True]
    assert service.trial(participant) is None


def test_the_same_people_judge_all_and_who_comes_later_is_told(database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", Design(per_comparison=2, same_people=True))
    early, second, late = study.join(), study.join(), study.join()
    assert judge_next(study, early)
    assert judge_next(study, second)
    assert judge_next(study, late) is None
    for person in (early, second):
        while judge_next(study, person) is not None:
            pass
    with read(database) as session:
        counts = session.execute(
            select(Assignment.participant_id, func.count()).join(Judgment).group_by(Assignment.participant_id)
        ).all()
    assert {tuple(row) for row in counts} == {(early, study.comparisons), (second, study.comparisons)}


def test_a_study_of_an_older_version_goes_on(tmp_path: Path) -> None:
    make_run(tmp_path, scores=False)
    database = open_database(default_url(tmp_path))
    begin_study(database, tmp_path, Design())
    from sqlalchemy import text

    from db.session import write

    old = '{"per_comparison": 5, "cannot_tell": false, "seed": 0, "language": "en"}'
    with write(database) as session:
        session.execute(text("UPDATE studies SET design = :old, design_sha256 = 'x'"), {"old": old})
    assert not begin_study(database, tmp_path, Design()).new
    database.close()


def test_a_study_judged_before_several_could_be_compared_keeps_every_row(tmp_path: Path, monkeypatch) -> None:
    make_run(tmp_path / "run", scores=False)
    now, before = tmp_path / "run" / "study.db", tmp_path / "before.db"
    database = open_database(f"sqlite:///{now}")
    design = Design(also_ask=("quality",), checks=Checks(null_pairs=0.2, repeats=0.2))
    simulate(database, begin_study(database, tmp_path / "run", design).study_id, 3, Behaviour(), 1)
    database.close()
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    for name in ("env.py", *(f"versions/{file.name}" for file in (schema.MIGRATIONS / "versions").glob("000[1-4]_*.py"))):
        (tmp_path / "migrations" / name).write_text((schema.MIGRATIONS / name).read_text())
    with monkeypatch.context() as old:
        old.setattr(schema, "MIGRATIONS", tmp_path / "migrations")
        open_database(f"sqlite:///{before}").close()
    shared: dict[str, str] = {}
    with sqlite3.connect(before) as connection:
        connection.execute("ATTACH ? AS now", (str(now),))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            if table != "alembic_version":
                columns = [f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})")]
                shared[table] = ", ".join(columns)
                connection.execute(f"INSERT INTO main.{table} ({shared[table]}) SELECT {shared[table]} FROM now.{table}")
    connection.close()
    open_database(f"sqlite:///{before}").close()
    with sqlite3.connect(before) as connection:
        connection.execute("ATTACH ? AS now", (str(now),))
        for table, columns in shared.items():
            rows = [
                connection.execute(f"SELECT {columns} FROM {where}.{table} ORDER BY 1").fetchall() for where in ("main", "now")
            ]
            assert rows[0] == rows[1], table
        assert connection.execute("SELECT count(*) FROM judgments").fetchone()[0] == 54
    connection.close()
