"""Screens, replies and further images: in the export, held by `verify`, found sound by `doctor`, forgotten by `erase`."""

import csv
import io
import zipfile
from pathlib import Path

from sqlalchemy import func, select

from db.models import Event, FurtherImage, FurtherPicture, Judgment, Reply, Screen
from db.session import Database, read, write
from db.utc import utc_now
from study_app.conduct.actions import erase
from study_app.conduct.doctor import examine
from study_app.conduct.export import export_study
from study_app.conduct.verify import verify_export
from study_app.plan.design import Checks, Design
from study_app.plan.questionnaire import Question
from study_app.plan.screen_check import ScreenRule, ScreenSize
from study_app.service.record_judgment import Timing
from study_app.service.study import StudyService
from tests.study_app.conftest import begin

DESIGN = Design(
    at_once=3,
    answer="ranking",
    per_comparison=2,
    checks=Checks(null_pairs=0.5),
    screen=ScreenRule(least_width=600),
    questionnaire=(Question(name="remarks", text="Anything else?", kind="text"),),
)
OWN = ("screens", "replies")
SHOWN = ("further_images", "further_pictures")


def go_through(service: StudyService) -> int:
    who = service.visitor(service.join()).id
    service.finish_step(who, "consented_at")
    assert service.check_screen(who, ScreenSize(1280, 900, 2.0), []) is None
    for step in ("instructed_at", "practiced_at"):
        service.finish_step(who, step)
    while (trial := service.trial(who)) is not None:
        service.answer(who, trial, "2 3 1", Timing())
    assert service.reply(who, {"remarks": f"I am {who}"}) == []
    return who


def exported(service: StudyService, target: Path) -> dict[str, list[dict[str, str]]]:
    """Export the study, hold the export to `verify`, and return its newer tables."""
    export_study(service.database, service.blinding.run, target)
    assert verify_export(target).judgments == 12
    with zipfile.ZipFile(target) as bundle:
        return {name: list(csv.DictReader(io.StringIO(bundle.read(f"{name}.csv").decode()))) for name in (*OWN, *SHOWN)}


def test_newer_tables_are_exported_examined_and_erased(database: Database, tmp_path: Path) -> None:
    study = begin(database, tmp_path / "run", DESIGN, arms=("direct", "mc_dropout", "ties"))
    service = StudyService(database, study.run)
    gone, stays = go_through(service), go_through(service)
    before = exported(service, tmp_path / "before.zip")
    assert [(row["participant_id"], row["width"], row["pixel_ratio"]) for row in before["screens"]] == [
        (str(gone), "1280", "2.0"), (str(stays), "1280", "2.0"),
    ]  # fmt: skip
    assert [row["reply"] for row in before["replies"]] == [f"I am {gone}", f"I am {stays}"]
    with read(database) as session:
        for name, table in (("further_images", FurtherImage), ("further_pictures", FurtherPicture)):
            assert len(before[name]) == session.scalar(select(func.count()).select_from(table)) > 0
    assert {row["place"] for row in before["further_images"]} == {"2"}
    wrong = [finding.what for finding in examine(database, study.run) if finding.state == "wrong"]
    # the tests' PostgreSQL has an easily guessed password, and doctor reports it
    assert not [what for what in wrong if "easily guessed" not in what]

    with write(database) as session:
        erase(session, study.study_id, gone, utc_now())
    after = exported(service, tmp_path / "after.zip")
    for name in OWN:
        assert after[name] == [row for row in before[name] if row["participant_id"] != str(gone)]
    for name in SHOWN:
        assert after[name] == before[name]
    with read(database) as session:
        assert [screen.participant_id for screen in session.scalars(select(Screen))] == [stays]
        assert [reply.participant_id for reply in session.scalars(select(Reply))] == [stays]
        assert session.scalar(select(func.count()).select_from(Judgment)) == 12
        assert f"I am {gone}" not in " ".join(str(event.content) for event in session.scalars(select(Event)))
