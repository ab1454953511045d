"""Loading a run: idempotent, whole, and never against what people were shown."""

from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from db.run_loader import load_run
from db.session import Database, read, write
from db.utc import utc_now
from evalkit.errors import UserError
from evalkit.run.manifest import Manifest
from evalkit.run.score_table import read_scores, write_scores
from tests.runs import make_run, score_rows


def counts(database: Database) -> dict[str, int]:
    with read(database) as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in models.DatabaseTable.metadata.sorted_tables
        }


def begin_study(database: Database, run_id: int) -> None:
    with write(database) as session:
        session.add(models.Study(run_id=run_id, design={}, design_sha256="0" * 64, seed=1, created_at=utc_now()))


def test_loading_twice_changes_nothing(database: Database, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    first = load_run(database, tmp_path / "run")
    before = counts(database)
    assert load_run(database, tmp_path / "run") == first
    assert counts(database) == before
    assert before["images"] == 18
    assert before["case_concepts"] == 6
    assert before["concept_references"] == 6
    assert before["scores"] == len(read_scores(tmp_path / "run"))


def test_what_was_loaded_reads_back(database: Database, tmp_path: Path) -> None:
    manifest = make_run(tmp_path / "run")
    load_run(database, tmp_path / "run")
    with read(database) as session:
        arms = session.scalars(select(models.StoredArm).order_by(models.StoredArm.position)).all()
        assert [arm.label for arm in arms] == [arm.label for arm in manifest.arms]
        case = session.scalars(select(models.StoredCase).order_by(models.StoredCase.id)).first()
        assert case is not None
        assert tuple(link.concept.name for link in case.concepts) == manifest.cases[0].concepts
        run = session.scalars(select(models.Run)).one()
        assert run.loaded_at.tzinfo is not None
        values = session.execute(
            select(models.StoredScore.value, models.StoredConcept.name, models.StoredImage.seed)
            .join(models.Metric, models.Metric.id == models.StoredScore.metric_id)
            .join(models.StoredImage, models.StoredImage.id == models.StoredScore.image_id)
            .join(models.StoredConcept, models.StoredConcept.id == models.StoredScore.concept_id)
            .where(models.Metric.name == "dino")
        )
        stored = sorted((value, concept, seed) for value, concept, seed in values)
    rows = read_scores(tmp_path / "run")
    assert stored == sorted((row.value, row.concept, row.seed) for row in rows if row.metric == "dino")


def test_new_scores_replace_those_of_the_same_signature_alone(database: Database, tmp_path: Path) -> None:
    manifest = make_run(tmp_path / "run")
    load_run(database, tmp_path / "run")
    rows = [row for row in score_rows(manifest) if row.metric == "musiq"]
    write_scores(tmp_path / "run", [*rows[1:], *score_rows(manifest, "other:2")])
    load_run(database, tmp_path / "run")
    with read(database) as session:
        per_metric = session.execute(
            select(models.Metric.name, models.Metric.signature, func.count())
            .join(models.StoredScore, models.StoredScore.metric_id == models.Metric.id)
            .group_by(models.Metric.name, models.Metric.signature)
        )
        found = {(name, signature): count for name, signature, count in per_metric}
    assert found["musiq", "musiq|drawn:1"] == 17
    assert found["musiq", "musiq|other:2"] == 18
    assert found["dino", "dino|drawn:1"] == 36


def test_a_run_without_scores_loads_and_gets_them_later(database: Database, tmp_path: Path) -> None:
    manifest = make_run(tmp_path / "run", scores=False)
    assert load_run(database, tmp_path / "run").scores == 0
    write_scores(tmp_path / "run", score_rows(manifest))
    assert load_run(database, tmp_path / "run").scores > 0


def test_two_runs_share_a_database(database: Database, tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", concepts=2)
    assert load_run(database, tmp_path / "one").run_id != load_run(database, tmp_path / "two").run_id
    assert counts(database)["runs"] == 2


def changed(run: Path) -> Manifest:
    manifest = Manifest.load(run)
    image = manifest.images[3].model_copy(update={"sha256": "f" * 64})
    other = manifest.model_copy(update={"images": (*manifest.images[:3], image, *manifest.images[4:])})
    other.save(run)
    return other


def test_a_redrawn_image_is_refused_once_a_study_has_begun(database: Database, tmp_path: Path) -> None:
    make_run(tmp_path / "run", scores=False)
    begin_study(database, load_run(database, tmp_path / "run").run_id)
    before = counts(database)
    changed(tmp_path / "run")
    with pytest.raises(UserError, match="case star-ring, arm mc_dropout, seed 1 is another one now"):
        load_run(database, tmp_path / "run")
    assert counts(database) == before


def test_a_redrawn_image_replaces_the_old_one_before_a_study(database: Database, tmp_path: Path) -> None:
    make_run(tmp_path / "run", scores=False)
    load_run(database, tmp_path / "run")
    changed(tmp_path / "run")
    load_run(database, tmp_path / "run")
    with read(database) as session:
        assert session.scalars(select(models.StoredImage).where(models.StoredImage.sha256 == "f" * 64)).one().seed == 1
    assert counts(database)["images"] == 18


def test_scores_of_other_images_are_refused(database: Database, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    changed(tmp_path / "run")
    with pytest.raises(UserError, match="is the score of another image"):
        load_run(database, tmp_path / "run")
    assert counts(database)["runs"] == 0


def test_a_score_that_stands_there_twice_is_refused(database: Database, tmp_path: Path) -> None:
    manifest = make_run(tmp_path / "run")
    rows = score_rows(manifest)
    write_scores(tmp_path / "run", [*rows, rows[0]])
    with pytest.raises(UserError, match="musiq of star-ring/direct/0 is given twice"):
        load_run(database, tmp_path / "run")


def test_a_run_that_lacks_an_image_is_refused(database: Database, tmp_path: Path) -> None:
    manifest = make_run(tmp_path / "run", scores=False)
    manifest.model_copy(update={"images": manifest.images[1:]}).save(tmp_path / "run")
    with pytest.raises(UserError, match="1 image is missing, the first is case star-ring, arm direct, seed 0"):
        load_run(database, tmp_path / "run")
