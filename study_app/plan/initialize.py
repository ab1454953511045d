"""Initialization of a study: load the run, freeze the design, plan the comparisons, make the blinded stimuli."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from db.models import Comparison, FurtherImage, Participant, Run, StoredArm, StoredCase, StoredImage, Study
from db.run_loader import load_run
from db.session import Database, forget_kept, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from study_app.plan.audit_log import sha256_of
from study_app.plan.blinding import make_stimuli, refuse_mixed
from study_app.plan.comparisons import plan_comparisons
from study_app.plan.design import WORDING, Design
from study_app.plan.log_start import bind_manifest, start_log
from study_app.plan.wording import make_wording


@dataclass(frozen=True)
class Begun:
    """The study of a run; `new` is False if it was initialized before with the same design."""

    study_id: int
    comparisons: int
    design: Design
    # of the design with all sentences shown
    design_sha256: str
    new: bool


def begin_study(database: Database, run: Path, design: Design, tell: Callable[[], None] | None = None) -> Begun:
    """Begin the study of a run, or find it as it was begun; `tell` is called after each stimulus.

    Until the first participant arrives another design replaces the old one; after that it is frozen.

    Raises:
        UserError: the run is not whole, has one arm only, lacks what the design names, or people have arrived under another
            design.
    """
    manifest = Manifest.load(run).complete(run)
    if len(manifest.arms) < 2:
        raise UserError(f"{run}: has one arm, {manifest.arms[0].label}; a comparison needs two")
    design.check_names(manifest)
    # a selection that can't be is refused before anything is written
    plan_comparisons(manifest, design.seed, design.comparisons, design.at_once)
    stored = {**design.model_dump(mode="json"), WORDING: make_wording(design, run)}
    if not design.mixed_sizes and find_study(database, run) is None:
        refuse_mixed(run, manifest, design.comparisons.arms or [arm.label for arm in manifest.arms])
    run_id = load_run(database, run).run_id
    make_stimuli(run, manifest, tell, one_size=design.mixed_sizes)
    with write(database) as session:
        study = session.scalar(select(Study).where(Study.run_id == run_id).with_for_update(key_share=True))
        if study is not None and Design.of(study) != design:
            _forget(session, run, study, design)
            study = None
        new = study is None
        if study is None:
            study = Study(
                run_id=run_id,
                design=stored,
                design_sha256=sha256_of(stored),
                seed=design.seed,
                created_at=utc_now(),
            )
            session.add(study)
            session.flush()
            _insert_comparisons(session, study, manifest, design)
            session.flush()
        start_log(session, study.id)
        bind_manifest(session, study.id, session.get_one(Run, run_id).manifest_sha256)
        count = len(session.scalars(select(Comparison.id).where(Comparison.study_id == study.id)).all())
        return Begun(study.id, count, design, study.design_sha256, new)


def find_study(database: Database, run: Path) -> Study | None:
    """Return the study of a run folder, or None."""
    sha256 = Manifest.load(run).experiment_sha256
    with read(database) as session:
        return session.scalar(select(Study).join(Run, Run.id == Study.run_id).where(Run.experiment_sha256 == sha256))


def _forget(session: Session, run: Path, study: Study, design: Design) -> None:
    if session.scalar(select(Participant.id).where(Participant.study_id == study.id).limit(1)) is not None:
        before, after = Design.of(study).model_dump(mode="json"), design.model_dump(mode="json")
        changes = ", ".join(f"{key} {before[key]!r} -> {after[key]!r}" for key in sorted(after) if before[key] != after[key])
        raise UserError(
            f"{run}: people have joined its study, so its design is frozen ({changes}); use another --db for another"
        )
    forget_kept(session)
    session.execute(delete(Comparison).where(Comparison.study_id == study.id))
    session.delete(study)
    session.flush()


def _insert_comparisons(session: Session, study: Study, manifest: Manifest, design: Design) -> None:
    rows = session.execute(
        select(StoredCase.key, StoredArm.label, StoredImage.seed, StoredImage.id, StoredImage.case_id)
        .join(StoredImage.case)
        .join(StoredImage.arm)
        .where(StoredCase.run_id == study.run_id)
    )
    images = {(case, arm, seed): (image_id, case_id) for case, arm, seed, image_id, case_id in rows}
    plan = plan_comparisons(manifest, design.seed, design.comparisons, design.at_once)
    session.execute(
        insert(Comparison),
        [
            {
                "study_id": study.id,
                "case_id": images[planned.case, planned.arms[0], planned.seed][1],
                "seed": planned.seed,
                "image_a_id": images[planned.case, planned.arms[0], planned.seed][0],
                "image_b_id": images[planned.case, planned.arms[1], planned.seed][0],
                "priority": planned.priority,
                "target": design.per_comparison,
                "filled": 0,
                "first_left": planned.first_left,
            }
            for planned in plan
        ],
    )
    if design.at_once > 2:
        places = session.execute(select(Comparison.priority, Comparison.id).where(Comparison.study_id == study.id))
        ids: dict[int, int] = {priority: comparison_id for priority, comparison_id in places}
        session.execute(
            insert(FurtherImage),
            [
                {
                    "comparison_id": ids[planned.priority],
                    "place": position,
                    "image_id": images[planned.case, arm, planned.seed][0],
                    "case_id": images[planned.case, arm, planned.seed][1],
                    "seed": planned.seed,
                }
                for planned in plan
                for position, arm in enumerate(planned.arms[2:], 2)
            ],
        )
