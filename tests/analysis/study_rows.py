"""Runs whose study has judgments, written straight into the database: what analysis reads, without the study's own service."""

from itertools import combinations
from pathlib import Path

import numpy as np
from sqlalchemy import select

from analysis.database_rows import read_run
from analysis.findings import analyze_run
from db import models
from db.run_loader import load_run
from db.session import Database, default_url, open_database, write
from db.utc import utc_now
from tests.runs import make_run


def add_judgments(
    database: Database, run_id: int, per_comparison: int = 5, people: int = 8, strength: float = 0.8, simulated: bool = True
) -> int:
    """Write a study of all comparisons of a run and its judgments, drawn so that earlier arms win; return their count.

    Sides are random; one judgment in twenty is `cannot_tell`. Called a second time it adds judgments to the same study.
    """
    rng = np.random.default_rng(7 + int(simulated))
    with write(database) as session:
        study = session.scalar(select(models.Study).where(models.Study.run_id == run_id))
        if study is None:
            study = models.Study(run_id=run_id, design={}, design_sha256="0" * 64, seed=1, created_at=utc_now())
            session.add(study)
            session.flush()
            _add_comparisons(session, study.id, run_id, 2 * per_comparison)
        who = _add_people(session, study.id, people, simulated)
        places = dict.fromkeys(who, 0)
        images = {image.id: image for image in session.scalars(select(models.StoredImage))}
        position = {arm.id: arm.position for arm in session.scalars(select(models.StoredArm))}
        assignments, choices = [], []
        for comparison in session.scalars(select(models.Comparison).where(models.Comparison.study_id == study.id)):
            gap = position[images[comparison.image_b_id].arm_id] - position[images[comparison.image_a_id].arm_id]
            for person in rng.choice(who, per_comparison, replace=False).tolist():
                left = int(rng.integers(2))
                assignments.append(
                    models.Assignment(
                        comparison_id=comparison.id,
                        participant_id=person,
                        position=places[person],
                        left=left,
                        state="done",
                        assigned_at=utc_now(),
                        expires_at=utc_now(),
                    )
                )
                places[person] += 1
                first_wins = rng.random() < 1 / (1 + np.exp(-strength * gap + 0.4 * (person % 3 - 1)))
                choice = "left" if first_wins == (left == 0) else "right"
                choices.append("cannot_tell" if rng.random() < 0.05 else choice)
            comparison.filled += per_comparison
        session.add_all(assignments)
        session.flush()
        session.add_all(
            models.Judgment(assignment_id=assignment.id, choice=choice, surplus=False, reaction_ms=1500, judged_at=utc_now())
            for assignment, choice in zip(assignments, choices, strict=True)
        )
    return len(choices)


def _add_people(session, study_id, people, simulated):
    made = [
        models.Participant(
            study_id=study_id,
            token_sha256=f"{int(simulated)}{number:063x}",
            seed=number,
            simulated=simulated,
            completion_code=f"{'s' if simulated else 'p'}{number}",
            arrived_at=utc_now(),
            consented_at=utc_now(),
        )
        for number in range(people)
    ]
    session.add_all(made)
    session.flush()
    return [person.id for person in made]


def _add_comparisons(session, study_id, run_id, target):
    rows = session.execute(
        select(models.StoredImage, models.StoredArm.position)
        .join(models.StoredImage.arm)
        .where(models.StoredArm.run_id == run_id)
        .order_by(models.StoredImage.case_id, models.StoredImage.seed, models.StoredArm.position)
    ).all()
    cells: dict[tuple[int, int], list[models.StoredImage]] = {}
    for image, _ in rows:
        cells.setdefault((image.case_id, image.seed), []).append(image)
    pairs = [(a, b) for held in cells.values() for a, b in combinations(held, 2)]
    session.add_all(
        models.Comparison(
            study_id=study_id,
            case_id=a.case_id,
            seed=a.seed,
            image_a_id=a.id,
            image_b_id=b.id,
            priority=number,
            target=target,
            filled=0,
            first_left=number % 2,
        )
        for number, (a, b) in enumerate(pairs)
    )
    session.flush()


def run_of(folder: Path, judged: bool = True, simulated: bool = True, **options) -> Path:
    make_run(folder, **{"concepts": 6, "seeds": 1, **options})
    database = open_database(default_url(folder))
    run_id = load_run(database, folder).run_id
    if judged:
        add_judgments(database, run_id, simulated=simulated)
    database.close()
    return folder


def findings_of(folder: Path, **options):
    database = open_database(default_url(folder))
    data = read_run(database, load_run(database, folder).run_id)
    database.close()
    return analyze_run(data, **options)
