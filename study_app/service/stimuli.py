"""Which images stand on a page: of a comparison, of a check, of a practice comparison."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from db.models import (
    CaseConcept,
    Check,
    Comparison,
    Participant,
    Reference,
    StoredArm,
    StoredCase,
    StoredConcept,
    StoredImage,
    Study,
)
from db.session import keep
from study_app.plan.blinding import Kind, common_size
from study_app.plan.design import design_of
from study_app.plan.page_layout import places

# More would only make the images smaller.
MOST_REFERENCES = 5
PRACTICES = 2
_PAIR = (
    select(Comparison.case_id, StoredImage.sha256, StoredImage.width, StoredImage.height)
    .join(StoredImage, StoredImage.id.in_((Comparison.image_a_id, Comparison.image_b_id)))
    .where(Comparison.id == bindparam("comparison"))
    .order_by(StoredImage.id != Comparison.image_a_id)
)


@dataclass(frozen=True)
class Stimulus:
    """An image: its place on the page (left, right, 3, or "reference 0 1": concept 0, image 1) and what makes its URL.

    `mark` names it within its owner without its side, so that its URL is known before sides are.
    """

    slot: str
    mark: str
    kind: Kind
    sha256: str
    # width and height in pixels; None if the page does not need it
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class PageStimuli:
    """All images of one page, their owner's name in URLs, the plain words of the concepts above, and the places to judge."""

    owner: str
    words: tuple[str, ...]
    stimuli: tuple[Stimulus, ...]
    places: tuple[str, ...] = ("left", "right")


def of_comparison(session: Session, participant_id: int, comparison_id: int, stand: Sequence[int]) -> PageStimuli:
    """Return what a participant sees of a comparison; `stand` holds its images' numbers in the order of the page."""
    # a study's run can't change once someone has joined
    case_id, images = keep(session, ("images", comparison_id), lambda: _read_images(session, comparison_id, len(stand)))
    words, above = _above(session, case_id)
    slots = places(len(stand))
    placed = tuple(_placed(slot, images[number]) for slot, number in zip(slots, stand, strict=True))
    return PageStimuli(f"comparison {participant_id} {comparison_id}", words, (*above, *placed), slots)


def _read_images(session: Session, comparison_id: int, count: int) -> tuple[int, tuple[Stimulus, ...]]:
    """Return the case of a comparison, and its images in the order of their arms."""
    if count > 2:
        comparison = session.get_one(Comparison, comparison_id)
        return comparison.case_id, tuple(
            _image(session, f"image {number}", image) for number, image in enumerate(comparison.images)
        )
    pair = session.execute(_PAIR, {"comparison": comparison_id}).all()
    return pair[0].case_id, tuple(
        Stimulus("", f"image {number}", "image", row.sha256, _shown_size(session, row.case_id, row.width, row.height))
        for number, row in enumerate(pair)
    )


def _shown_size(session: Session, case_id: int, width: int, height: int) -> tuple[int, int]:
    """Return the size at which an image is served: its own, or the common one if the design mixes sizes."""
    study_id = keep(session, ("study of", case_id), lambda: _study_of(session, case_id))
    return image_size(session, study_id) if design_of(session, study_id).mixed_sizes else (width, height)


def _study_of(session: Session, case_id: int) -> int:
    return session.execute(
        select(Study.id).join(StoredCase, StoredCase.run_id == Study.run_id).where(StoredCase.id == case_id)
    ).scalar_one()


def images_of(comparison: Comparison, stand: Sequence[int]) -> tuple[StoredImage, ...]:
    """Return a comparison's images in the order of the page."""
    # of a pair no further ones need be looked for
    images = (comparison.image_a, comparison.image_b) if len(stand) == 2 else comparison.images
    return tuple(images[number] for number in stand)


def of_check(session: Session, check: Check, number: int) -> PageStimuli:
    """Return what a participant sees of a check; `number` counts the participant's checks from 0."""
    owner = _check_owner(check.participant_id, number)
    images = [check.left_image, check.right_image, *(picture.image for picture in check.further)]
    shown = [image for image in images if image is not None]
    if shown:
        return _of_images(session, owner, shown)
    references = [check.left_reference, check.right_reference, *(picture.reference for picture in check.further)]
    pictures = [ConceptPicture(reference.id, reference.sha256) for reference in references if reference is not None]
    if check.concept is None:
        raise RuntimeError(f"check {check.id} shows neither images nor references")
    study_id = session.get_one(Participant, check.participant_id).study_id
    return _of_references(session, owner, study_id, PicturedConcept.of(check.concept), pictures, check.case_id)


def of_planned_check(
    session: Session,
    participant_id: int,
    number: int,
    images: Sequence[int],
    references: Sequence[int],
    concept: "PicturedConcept | None",
    case_id: int | None,
) -> PageStimuli:
    """Return what a participant will see of a check that is planned, by the ids of its images or references."""
    owner = _check_owner(participant_id, number)
    if images or concept is None:
        rows = {image.id: image for image in session.scalars(select(StoredImage).where(StoredImage.id.in_(images)))}
        return _of_images(session, owner, [rows[identifier] for identifier in images])
    by_id = {row.id: row for row in session.scalars(select(Reference).where(Reference.id.in_(references)))}
    pictures = [ConceptPicture(identifier, by_id[identifier].sha256) for identifier in references]
    study_id = session.get_one(Participant, participant_id).study_id
    return _of_references(session, owner, study_id, concept, pictures, case_id)


def _check_owner(participant_id: int, number: int) -> str:
    return f"check {participant_id} {number}"


def _of_images(session: Session, owner: str, images: Sequence[StoredImage]) -> PageStimuli:
    slots = places(len(images))
    words, above = _above(session, images[0].case_id)
    placed = [_placed(slot, _image(session, slot, image)) for slot, image in zip(slots, images, strict=True)]
    return PageStimuli(owner, words, (*above, *placed), slots)


def image_size(session: Session, study_id: int) -> tuple[int, int]:
    """Return the most frequent width and height in pixels of the run's images."""
    return keep(session, ("image size", study_id), lambda: _read_size(session, study_id))


def _read_size(session: Session, study_id: int) -> tuple[int, int]:
    rows = session.execute(
        select(StoredImage.width, StoredImage.height, func.count())
        .join(StoredArm, StoredArm.id == StoredImage.arm_id)
        .join(Study, Study.run_id == StoredArm.run_id)
        .where(Study.id == study_id)
        .group_by(StoredImage.width, StoredImage.height)
    )
    return common_size({(width, height): count for width, height, count in rows})


@dataclass(frozen=True)
class ConceptPicture:
    """A reference as the database knows it: its id, and the sha256 of its file."""

    id: int
    sha256: str


@dataclass(frozen=True)
class PicturedConcept:
    """A concept with its images, in the run's order."""

    id: int
    name: str
    class_word: str
    references: tuple[ConceptPicture, ...]

    @classmethod
    def of(cls, concept: StoredConcept) -> "PicturedConcept":
        """Return a row of the database, read whole."""
        pictures = tuple(ConceptPicture(picture.id, picture.sha256) for picture in concept.references)
        return cls(concept.id, concept.name, concept.class_word, pictures)


@dataclass(frozen=True)
class PracticeComparison:
    """A comparison for practice and the place whose image shows the concept asked for."""

    shown: PageStimuli
    right_answer: str


def of_practice(session: Session, participant_id: int, at_once: int) -> list[PracticeComparison]:
    """Return a participant's comparisons for practice, none if the run has references of fewer than two concepts.

    Each shows so many images at once, or fewer where the other concepts have no more.
    """
    participant = session.get_one(Participant, participant_id)
    concepts = list(concepts_with_references(session, participant.study_id))
    if len(concepts) < 2:
        return []
    rng = random.Random(f"practice {participant.seed}")
    rng.shuffle(concepts)
    practices = []
    for number in range(PRACTICES):
        asked = concepts[(2 * number) % len(concepts)]
        start = (2 * number + 1) % len(concepts)
        others = [concept for concept in (*concepts[start:], *concepts[:start]) if concept is not asked]
        # an image of every other concept, then, if those are too few, further images of them
        pool = [concept.references[-1] for concept in others]
        pool += [picture for concept in others for picture in concept.references[:-1]]
        shown = [asked.references[-1], *pool[: at_once - 1]]
        rng.shuffle(shown)
        right = places(len(shown))[shown.index(asked.references[-1])]
        practices.append(
            PracticeComparison(
                _of_references(session, f"practice {participant_id} {number}", participant.study_id, asked, shown), right
            )
        )
    return practices


def concepts_with_references(session: Session, study_id: int) -> tuple[PicturedConcept, ...]:
    """Return the concepts of a study's run that have images, in the run's order."""
    return keep(session, ("pictured", study_id), lambda: _read_pictured(session, study_id))


def _read_pictured(session: Session, study_id: int) -> tuple[PicturedConcept, ...]:
    run_id = select(Study.run_id).where(Study.id == study_id).scalar_subquery()
    concepts = session.scalars(select(StoredConcept).where(StoredConcept.run_id == run_id).order_by(StoredConcept.id))
    return tuple(PicturedConcept.of(concept) for concept in concepts if concept.references)


def _of_references(
    session: Session,
    owner: str,
    study_id: int,
    asked: PicturedConcept,
    pictures: Sequence[ConceptPicture],
    case_id: int | None = None,
) -> PageStimuli:
    """Return a page of references to judge.

    Above them are the concepts of a case, as on any page, or without a case the other references of the concept asked for.
    """
    if case_id is not None:
        words, stimuli = _above(session, case_id)
    else:
        words = (asked.class_word,)
        stimuli = tuple(_references(0, asked.references[:-1][:MOST_REFERENCES] or asked.references))
    slots, size = places(len(pictures)), image_size(session, study_id)
    probes = [Stimulus(slot, slot, "probe", picture.sha256, size) for slot, picture in zip(slots, pictures, strict=True)]
    return PageStimuli(owner, words, (*stimuli, *probes), slots)


def _above(session: Session, case_id: int) -> tuple[tuple[str, ...], tuple[Stimulus, ...]]:
    """Return the plain words of a case's concepts and their references."""
    return keep(session, ("above", case_id), lambda: _read_above(session, case_id))


def _read_above(session: Session, case_id: int) -> tuple[tuple[str, ...], tuple[Stimulus, ...]]:
    links = session.scalars(select(CaseConcept).where(CaseConcept.case_id == case_id).order_by(CaseConcept.position)).all()
    stimuli: list[Stimulus] = []
    for number, link in enumerate(links):
        stimuli += _references(number, link.concept.references[:MOST_REFERENCES])
    return tuple(link.concept.class_word for link in links), tuple(stimuli)


def _references(number: int, pictures: Sequence[Reference | ConceptPicture]) -> list[Stimulus]:
    slots = [f"reference {number} {index}" for index in range(len(pictures))]
    return [Stimulus(slot, slot, "reference", picture.sha256) for slot, picture in zip(slots, pictures, strict=True)]


def _image(session: Session, mark: str, image: StoredImage) -> Stimulus:
    return Stimulus("", mark, "image", image.sha256, _shown_size(session, image.case_id, image.width, image.height))


def _placed(side: str, stimulus: Stimulus) -> Stimulus:
    return Stimulus(side, stimulus.mark, stimulus.kind, stimulus.sha256, stimulus.size)
