"""One zip of a study: what was asked, of whom, on which sides, what was answered, with hashes of it all."""

import csv
import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from db.models import (
    Answer,
    Assignment,
    Check,
    Comparison,
    Event,
    FurtherImage,
    FurtherPicture,
    Judgment,
    Participant,
    Reference,
    Reply,
    Screen,
    StoredArm,
    StoredCase,
    StoredConcept,
    StoredImage,
    Withdrawal,
)
from db.schema import newest
from db.session import Database, read
from db.utc import utc_now
from evalkit import __version__
from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from study_app.plan.initialize import find_study

EVENTS_NAME = "events.jsonl"


def export_study(database: Database, run: Path, target: Path) -> int:
    """Write the study of a run to a zip file, whole or not at all, and return the number of judgments in it.

    Tables are CSV with a header, ids as in the database, moments in UTC (ISO 8601). SHA256SUMS holds the hash of every other
    file and can be checked with `sha256sum -c`; events.jsonl is the log, each line with the hash that chains it. Tokens of
    participants are not in it, nor recruiters' ids, nor the study's secret.

    Raises:
        UserError: no study was begun, or the file can't be written.
    """
    study = find_study(database, run)
    if study is None:
        raise UserError(f"{run}: the study has not been initialized; run `evalkit study init {run}`")
    with read(database) as session:
        queries = _queries(study.id)
        tables = {name: session.execute(query).all() for name, query in queries.items()}
        events = session.scalars(select(Event).where(Event.study_id == study.id).order_by(Event.number)).all()
    files = {f"{name}.csv": _csv(queries[name], rows) for name, rows in tables.items()}
    files[MANIFEST_NAME] = (run / MANIFEST_NAME).read_bytes()
    files["design.json"] = _json(
        {"design": study.design, "sha256": study.design_sha256, "created_at": study.created_at.isoformat()}
    )
    files[EVENTS_NAME] = b"".join(_event(event) for event in events)
    files["about.json"] = _json(
        {
            "evalkit": __version__,
            "python": platform.python_version(),
            "schema": newest(),
            "exported_at": utc_now().isoformat(),
            "events": len(events),
            "chain": events[-1].sha256 if events else study.design_sha256,
            "simulated_participants": sum(row.simulated for row in tables["participants"]),
        }
    )
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    with temporary_beside(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in sorted({**files, "SHA256SUMS": sums.encode()}.items()):
            bundle.writestr(name, data)
    return len(tables["judgments"])


def _queries(study_id: int) -> dict[str, Select[*tuple[object, ...]]]:
    """Return the query of each exported table."""
    arm_a, arm_b = aliased(StoredArm), aliased(StoredArm)
    image_a, image_b = aliased(StoredImage), aliased(StoredImage)
    comparisons = (
        select(
            Comparison.id, StoredCase.key.label("case"), Comparison.seed,
            arm_a.label.label("arm_a"), arm_b.label.label("arm_b"),
            image_a.sha256.label("image_a_sha256"), image_b.sha256.label("image_b_sha256"),
            Comparison.priority, Comparison.target, Comparison.filled, Comparison.first_left,
        )
        .join(StoredCase, StoredCase.id == Comparison.case_id)
        .join(image_a, image_a.id == Comparison.image_a_id)
        .join(image_b, image_b.id == Comparison.image_b_id)
        .join(arm_a, arm_a.id == image_a.arm_id)
        .join(arm_b, arm_b.id == image_b.arm_id)
        .where(Comparison.study_id == study_id)
        .order_by(Comparison.id)
    )  # fmt: skip
    further = (
        select(
            FurtherImage.comparison_id, FurtherImage.place, StoredArm.label.label("arm"),
            StoredImage.sha256.label("image_sha256"),
        )
        .join(Comparison, Comparison.id == FurtherImage.comparison_id)
        .join(StoredImage, StoredImage.id == FurtherImage.image_id)
        .join(StoredArm, StoredArm.id == StoredImage.arm_id)
        .where(Comparison.study_id == study_id)
        .order_by(FurtherImage.comparison_id, FurtherImage.place)
    )  # fmt: skip
    participants = (
        select(
            Participant.id, Participant.simulated, Participant.seed, Participant.completion_code, Participant.arrived_at,
            Participant.consented_at, Participant.screened_at, Participant.instructed_at, Participant.practiced_at,
            Participant.finished_at, Participant.questioned_at, Participant.language, Participant.excluded_at,
            Participant.excluded_because,
        )
        .where(Participant.study_id == study_id)
        .order_by(Participant.id)
    )  # fmt: skip
    assignments = (
        select(
            Assignment.id, Assignment.comparison_id, Assignment.participant_id, Assignment.position, Assignment.left,
            Assignment.arrangement, Assignment.state, Assignment.assigned_at, Assignment.expires_at,
        )
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(Assignment.id)
    )  # fmt: skip
    judgments = _measured(study_id, Judgment, Judgment.choice, Judgment.surplus, Judgment.judged_at)
    answers = _measured(study_id, Answer, Answer.question, Answer.choice, Answer.answered_at)
    withdrawals = _measured(
        study_id, Withdrawal, Withdrawal.question, Withdrawal.choice, Withdrawal.judged_at, Withdrawal.withdrawn_at
    )
    left_image, right_image, left_reference, right_reference = (
        aliased(StoredImage), aliased(StoredImage), aliased(Reference), aliased(Reference),
    )  # fmt: skip
    checks = (
        select(
            Check.id, Check.participant_id, Check.kind, Check.after, Check.assignment_id, StoredConcept.name.label("concept"),
            func.coalesce(left_image.sha256, left_reference.sha256).label("left_sha256"),
            func.coalesce(right_image.sha256, right_reference.sha256).label("right_sha256"),
            Check.expected, Check.choice, Check.given_at, Check.answered_at,
            Check.reaction_ms, Check.loaded_ms, Check.hidden_ms, Check.focus_losses,
        )
        .join(Participant, Participant.id == Check.participant_id)
        .outerjoin(StoredConcept, StoredConcept.id == Check.concept_id)
        .outerjoin(left_image, left_image.id == Check.left_image_id)
        .outerjoin(right_image, right_image.id == Check.right_image_id)
        .outerjoin(left_reference, left_reference.id == Check.left_reference_id)
        .outerjoin(right_reference, right_reference.id == Check.right_reference_id)
        .where(Participant.study_id == study_id)
        .order_by(Check.id)
    )  # fmt: skip
    pictures = (
        select(
            FurtherPicture.check_id, FurtherPicture.place, func.coalesce(StoredImage.sha256, Reference.sha256).label("sha256")
        )
        .join(Check, Check.id == FurtherPicture.check_id)
        .join(Participant, Participant.id == Check.participant_id)
        .outerjoin(StoredImage, StoredImage.id == FurtherPicture.image_id)
        .outerjoin(Reference, Reference.id == FurtherPicture.reference_id)
        .where(Participant.study_id == study_id)
        .order_by(FurtherPicture.check_id, FurtherPicture.place)
    )
    screens = (
        select(
            Screen.participant_id, Screen.width, Screen.height, Screen.pixel_ratio, Screen.plates, Screen.plates_read,
            Screen.attempts, Screen.failure, Screen.checked_at,
        )
        .join(Participant, Participant.id == Screen.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(Screen.participant_id)
    )  # fmt: skip
    replies = (
        select(Reply.participant_id, Reply.question, Reply.reply, Reply.replied_at)
        .join(Participant, Participant.id == Reply.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(Reply.participant_id, Reply.question)
    )
    return {
        "comparisons": comparisons,
        "further_images": further,
        "participants": participants,
        "assignments": assignments,
        "judgments": judgments,
        "answers": answers,
        "checks": checks,
        "withdrawals": withdrawals,
        "further_pictures": pictures,
        "screens": screens,
        "replies": replies,
    }


def _measured(
    study_id: int, table: type[Judgment | Answer | Withdrawal], *columns: InstrumentedAttribute[Any]
) -> Select[*tuple[object, ...]]:
    """Return the query of what was said of assignments, with what the browser measured."""
    measured = (table.reaction_ms, table.loaded_ms, table.hidden_ms, table.focus_losses)
    return (
        select(table.id, table.assignment_id, *columns, *measured)
        .join(Assignment, Assignment.id == table.assignment_id)
        .join(Participant, Participant.id == Assignment.participant_id)
        .where(Participant.study_id == study_id)
        .order_by(table.id)
    )


def _csv(query: Select[*tuple[object, ...]], rows: Iterable[Row[*tuple[object, ...]]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(query.selected_columns.keys())
    writer.writerows([_plain(value) for value in row] for row in rows)
    return stream.getvalue().encode()


def _plain(value: object) -> object:
    """Return a value as it stands in the CSV: 1 and 0 for booleans, nothing for what is absent.

    A text that a spreadsheet would run as a formula gets an apostrophe before it: people may type what they like.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value.isoformat() if isinstance(value, datetime) else value


def _json(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _event(event: Event) -> bytes:
    told = {
        "number": event.number,
        "kind": event.kind,
        "content": event.content,
        "happened_at": event.happened_at.isoformat(),
        "sha256": event.sha256,
    }
    return (json.dumps(told, sort_keys=True) + "\n").encode()
