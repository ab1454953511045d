"""Idempotent loading of a run folder's manifest and scores into the database."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db import models
from db.session import Database, write
from db.utc import utc_now
from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from evalkit.run.image_records import Cell, ImageRecord, ImageRecords
from evalkit.run.manifest import FILE_NAME as MANIFEST_NAME
from evalkit.run.manifest import ImageIndex, Manifest
from evalkit.run.score_table import FILE_NAME as SCORES_NAME
from evalkit.run.score_table import GROUP, RunScore, stored_scores

# in place of the sha256 of an image that the run does not have
NO_IMAGE = 64 * "0"


@dataclass(frozen=True)
class Loaded:
    """Result of loading a run folder: the run's id and the numbers of images, metrics and scores."""

    run_id: int
    images: int
    metrics: int
    scores: int


def load_run(database: Database, run: Path) -> Loaded:
    """Load the run's manifest and scores into the database, in one transaction.

    A run is identified by its experiment's sha256; loading the same folder again changes nothing. Scores replace earlier ones
    of the same metric and signature; scores of another signature are kept.

    Raises:
        UserError: images are missing, scores are of other images than the manifest's, or the manifest no longer fits the
            comparisons people were given.
    """
    manifest = Manifest.load(run)
    manifest = _with_placeholders(manifest) if manifest.source == "votes" else manifest.complete(run)
    rows = stored_scores(run) if (run / SCORES_NAME).exists() else ()
    metrics = _check_scores(run, manifest, rows)
    with write(database) as session:
        row = _run_row(session, run, manifest)
        scores_sha256 = sha256_file(run / SCORES_NAME) if rows else None
        if scores_sha256 is not None and row.scores_sha256 != scores_sha256:
            _replace_scores(session, run, _Ids(session, row.id, manifest), metrics, rows)
            row.scores_sha256 = scores_sha256
        return Loaded(run_id=row.id, images=len(manifest.images), metrics=len(metrics), scores=len(rows))


def _with_placeholders(manifest: Manifest) -> Manifest:
    """Return the manifest of votes without images with one placeholder per image: no path, no size, no hash."""
    records = (
        ImageRecord.model_construct(path="", sha256=NO_IMAGE, width=0, height=0, case=case, arm=arm, seed=seed)
        for case, arm, seed in manifest.expected()
    )
    return manifest.model_copy(update={"images": ImageRecords(records)})


class _Ids:
    """The database ids of a run and its concepts, arms, cases and images, by their names."""

    def __init__(self, session: Session, run_id: int, manifest: Manifest) -> None:
        self.run = run_id
        arms = session.execute(select(models.StoredArm.label, models.StoredArm.id).where(models.StoredArm.run_id == run_id))
        concepts = session.execute(
            select(models.StoredConcept.name, models.StoredConcept.id).where(models.StoredConcept.run_id == run_id)
        )
        cases = session.execute(select(models.StoredCase.key, models.StoredCase.id).where(models.StoredCase.run_id == run_id))
        self.arms: dict[str, int] = {label: identifier for label, identifier in arms}
        self.concepts: dict[str, int] = {name: identifier for name, identifier in concepts}
        self.cases: dict[str, int] = {key: identifier for key, identifier in cases}
        self._places = ImageIndex(manifest)
        # by their place in the manifest, 8 bytes each
        self._images = array("q", bytes(8 * len(manifest.images)))
        images = session.execute(
            select(models.StoredCase.key, models.StoredArm.label, models.StoredImage.seed, models.StoredImage.id)
            .join(models.StoredImage.case)
            .join(models.StoredImage.arm)
            .where(models.StoredCase.run_id == run_id)
            .execution_options(yield_per=GROUP)
        )
        for case, arm, seed, identifier in images:
            self._images[self._place((case, arm, seed))] = identifier

    def image(self, cell: Cell) -> int:
        """Return the id of a cell's image."""
        return self._images[self._place(cell)]

    def _place(self, cell: Cell) -> int:
        position = self._places.find(cell)
        if position is None:
            raise KeyError(cell)
        return position


def _check_scores(run: Path, manifest: Manifest, rows: Iterable[RunScore]) -> dict[tuple[str, str], str]:
    """Hold score rows to the manifest: every name known, every image the one that was scored.

    Return the direction of each metric under each signature.
    """
    places = ImageIndex(manifest)
    concepts = {concept.name for concept in manifest.concepts}
    again = f"score the run again with `evalkit score {run}`"
    directions: dict[tuple[str, str], str] = {}
    for row in rows:
        location = f"{run / SCORES_NAME}: {row.metric} of {row.case}/{row.arm}/{row.seed}"
        image = places.find((row.case, row.arm, row.seed))
        if image is None or manifest.images[image].sha256 != row.image_sha256:
            raise UserError(f"{location}: is the score of another image than the manifest's; {again}")
        if row.concept and row.concept not in concepts:
            raise UserError(f"{location}: no concept {row.concept!r} in the manifest; {again}")
        if row.other_arm and places.find((row.case, row.other_arm, row.seed)) is None:
            raise UserError(f"{location}: no image of arm {row.other_arm!r} in the manifest; {again}")
        if directions.setdefault((row.metric, row.signature), row.direction) != row.direction:
            raise UserError(f"{run / SCORES_NAME}: {row.metric} has two directions under one signature; {again}")
    return directions


def _run_row(session: Session, run: Path, manifest: Manifest) -> models.Run:
    """Return the run's row, its manifest loaded."""
    sha256 = sha256_file(run / MANIFEST_NAME)
    row = session.scalar(select(models.Run).where(models.Run.experiment_sha256 == manifest.experiment_sha256))
    if row is not None and row.manifest_sha256 == sha256:
        return row
    if row is None:
        row = models.Run(
            name=manifest.name,
            experiment_sha256=manifest.experiment_sha256,
            manifest_sha256=sha256,
            # the database has had two kinds of sources from the start; votes without images came in
            source="imported" if manifest.source == "votes" else manifest.source,
            loaded_at=utc_now(),
        )
        session.add(row)
        session.flush()
        _insert_manifest(session, row.id, manifest)
        return row
    has_study = session.scalar(select(models.Study.id).where(models.Study.run_id == row.id)) is not None
    if has_study:
        _refuse_contradiction(session, row.id, run, manifest)
    else:
        _forget_manifest(session, row.id)
        _insert_manifest(session, row.id, manifest)
        row.scores_sha256 = None
    row.manifest_sha256 = sha256
    row.name = manifest.name
    row.loaded_at = utc_now()
    return row


def _refuse_contradiction(session: Session, run_id: int, run: Path, manifest: Manifest) -> None:
    """Raise a UserError if the images, arms or cases of a study differ from the manifest."""
    stored = session.execute(
        select(models.StoredCase.key, models.StoredArm.label, models.StoredImage.seed, models.StoredImage.sha256)
        .join(models.StoredImage.case)
        .join(models.StoredImage.arm)
        .where(models.StoredCase.run_id == run_id)
    )
    before: dict[Cell, str] = {(case, arm, seed): sha256 for case, arm, seed, sha256 in stored}
    now = {image.cell: image.sha256 for image in manifest.images}
    for cell in sorted(before.keys() | now.keys()):
        if before.get(cell) != now.get(cell):
            case, arm, seed = cell
            what = "is another one now" if cell in before and cell in now else "is new" if cell in now else "is gone"
            raise UserError(
                f"{run}: the image of case {case}, arm {arm}, seed {seed} {what}, but a study of this run has begun; "
                "bring the old images back, or make a new run in another folder"
            )


def _forget_manifest(session: Session, run_id: int) -> None:
    cases = select(models.StoredCase.id).where(models.StoredCase.run_id == run_id)
    session.execute(delete(models.Metric).where(models.Metric.run_id == run_id))
    session.execute(delete(models.StoredImage).where(models.StoredImage.case_id.in_(cases)))
    for table in (models.StoredCase, models.StoredArm, models.StoredConcept):
        session.execute(delete(table).where(table.run_id == run_id))


def _insert_manifest(session: Session, run_id: int, manifest: Manifest) -> None:
    """Insert concepts, arms, cases and images in bulk."""
    _insert(
        session,
        models.StoredConcept,
        ({"run_id": run_id, "name": c.name, "words": c.words, "class_word": c.class_word} for c in manifest.concepts),
    )
    _insert(
        session,
        models.StoredArm,
        (
            {
                "run_id": run_id,
                "label": arm.label,
                "method": arm.method,
                "parameters": dict(arm.parameters),
                "position": position,
            }
            for position, arm in enumerate(manifest.arms)
        ),
    )
    _insert(
        session,
        models.StoredCase,
        (
            {"run_id": run_id, "key": case.id, "prompt": case.prompt, "plain_prompt": case.plain_prompt}
            for case in manifest.cases
        ),
    )
    ids = _Ids(session, run_id, manifest)
    _insert(
        session,
        models.Reference,
        (
            {"concept_id": ids.concepts[concept.name], "position": position, "path": picture.path, "sha256": picture.sha256}
            for concept in manifest.concepts
            for position, picture in enumerate(concept.references)
        ),
    )
    _insert(
        session,
        models.CaseConcept,
        (
            {"case_id": ids.cases[case.id], "position": position, "concept_id": ids.concepts[name]}
            for case in manifest.cases
            for position, name in enumerate(case.concepts)
        ),
    )
    _insert(
        session,
        models.StoredImage,
        (
            {
                "case_id": ids.cases[image.case],
                "arm_id": ids.arms[image.arm],
                **image.model_dump(include={"seed", "path", "sha256", "width", "height", "latents_sha256"}),
            }
            for image in manifest.images
        ),
    )


def _replace_scores(
    session: Session, run: Path, ids: _Ids, directions: Mapping[tuple[str, str], str], rows: Iterable[RunScore]
) -> None:
    """Put the rows in the place of all earlier ones of the same metrics and signatures.

    Raises:
        UserError: a score occurs twice, as reported by the database's unique index.
    """
    metrics: dict[tuple[str, str], int] = {}
    for (name, signature), direction in sorted(directions.items()):
        metric = session.scalar(
            select(models.Metric).where(
                models.Metric.run_id == ids.run, models.Metric.name == name, models.Metric.signature == signature
            )
        )
        if metric is None:
            metric = models.Metric(run_id=ids.run, name=name, signature=signature)
            session.add(metric)
        else:
            session.execute(delete(models.StoredScore).where(models.StoredScore.metric_id == metric.id))
        metric.direction = direction
        metric.loaded_at = utc_now()
        session.flush()
        metrics[name, signature] = metric.id
    values: Iterator[dict[str, object]] = (
        {
            "metric_id": metrics[row.metric, row.signature],
            "image_id": ids.image((row.case, row.arm, row.seed)),
            "concept_id": ids.concepts[row.concept] if row.concept else None,
            "other_image_id": ids.image((row.case, row.other_arm, row.seed)) if row.other_arm else None,
            "value": row.value,
        }
        for row in rows
    )
    try:
        _insert(session, models.StoredScore, values)
    except IntegrityError as error:
        raise UserError(
            f"{run / SCORES_NAME}: {_twice(rows)} is given twice; score the run again with `evalkit score {run}`"
        ) from error


def _twice(rows: Iterable[RunScore]) -> str:
    """Return a description of the first duplicate score."""
    seen = set()
    for row in rows:
        key = (row.case, row.arm, row.seed, row.metric, row.signature, row.concept, row.other_arm)
        if key in seen:
            return f"{row.metric} of {row.case}/{row.arm}/{row.seed}"
        seen.add(key)
    return "a score"


def _insert(session: Session, table: type[models.DatabaseTable], rows: Iterable[dict[str, object]]) -> None:
    """Insert rows, some thousand at a time."""
    coming = iter(rows)
    while group := list(islice(coming, GROUP)):
        session.execute(insert(table), group)
