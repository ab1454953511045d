"""Which pictures stand on a page: of a comparison, of a check, of a practice comparison."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import CaseConcept, Check, Comparison, Concept, Image, Participant, Reference, Study
from study_app.blinding import Kind

# More would only make the pictures smaller.
MOST_REFERENCES = 5
PRACTICES = 2


@dataclass(frozen=True)
class Stimulus:
    """A picture: its place on the page (left, right, or "reference 0 1": concept 0, picture 1) and what makes its URL.

    `mark` names it within its owner without its side, so that its URL is known before sides are.
    """

    slot: str
    mark: str
    kind: Kind
    sha256: str
    # width and height in pixels; None where the page has no need of it
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Shown:
    """All pictures of one page, their owner's name in URLs, and the plain words of the concepts above."""

    owner: str
    words: tuple[str, ...]
    stimuli: tuple[Stimulus, ...]


def of_comparison(session: Session, participant_id: int, comparison: Comparison, left: int) -> Shown:
    """Return what a participant sees of a comparison; `left` is 0 where image a is on the left."""
    words, stimuli = _above(session, comparison.case_id)
    marked = {0: _image("image a", comparison.image_a), 1: _image("image b", comparison.image_b)}
    stimuli += [_placed("left", marked[left]), _placed("right", marked[1 - left])]
    return Shown(f"comparison {participant_id} {comparison.id}", words, tuple(stimuli))


def of_check(session: Session, check: Check) -> Shown:
    """Return what a participant sees of a check."""
    owner = f"check {check.id}"
    if check.left_image is not None and check.right_image is not None:
        words, stimuli = _above(session, check.left_image.case_id)
        sides = [("left", _image("left", check.left_image)), ("right", _image("right", check.right_image))]
        return Shown(owner, words, (*stimuli, *(_placed(side, stimulus) for side, stimulus in sides)))
    if check.concept is None or check.left_reference is None or check.right_reference is None:
        raise RuntimeError(f"check {check.id} shows neither images nor references")
    pair = check.left_reference, check.right_reference
    return _of_references(owner, check.concept, pair)


@dataclass(frozen=True)
class Practice:
    """A comparison for practice and the side whose picture shows the concept asked for."""

    shown: Shown
    right_answer: str


def of_practice(session: Session, participant_id: int) -> list[Practice]:
    """Return a participant's comparisons for practice, none where the run has references of fewer than two concepts."""
    participant = session.get_one(Participant, participant_id)
    concepts = concepts_with_references(session, participant.study_id)
    if len(concepts) < 2:
        return []
    rng = random.Random(f"practice {participant.seed}")
    rng.shuffle(concepts)
    practices = []
    for number in range(PRACTICES):
        asked, other = concepts[(2 * number) % len(concepts)], concepts[(2 * number + 1) % len(concepts)]
        pair = [asked.references[-1], other.references[-1]]
        rng.shuffle(pair)
        shown = _of_references(f"practice {participant_id} {number}", asked, (pair[0], pair[1]))
        practices.append(Practice(shown, "left" if pair[0] is asked.references[-1] else "right"))
    return practices


def concepts_with_references(session: Session, study_id: int) -> list[Concept]:
    """Return the concepts of a study's run that have pictures, in the run's order."""
    run_id = select(Study.run_id).where(Study.id == study_id).scalar_subquery()
    concepts = session.scalars(select(Concept).where(Concept.run_id == run_id).order_by(Concept.id)).all()
    return [concept for concept in concepts if concept.references]


def _of_references(owner: str, asked: Concept, pair: tuple[Reference, Reference]) -> Shown:
    """Return a page of two references, above them the other pictures of the concept asked for."""
    above = asked.references[:-1][:MOST_REFERENCES] or asked.references
    stimuli = [*_references(0, above)]
    stimuli += [
        Stimulus(side, side, "reference", picture.sha256) for side, picture in zip(("left", "right"), pair, strict=True)
    ]
    return Shown(owner, (asked.class_word,), tuple(stimuli))


def _above(session: Session, case_id: int) -> tuple[tuple[str, ...], list[Stimulus]]:
    """Return the plain words of a case's concepts and their references."""
    links = session.scalars(select(CaseConcept).where(CaseConcept.case_id == case_id).order_by(CaseConcept.position)).all()
    stimuli: list[Stimulus] = []
    for number, link in enumerate(links):
        stimuli += _references(number, link.concept.references[:MOST_REFERENCES])
    return tuple(link.concept.class_word for link in links), stimuli


def _references(number: int, pictures: Sequence[Reference]) -> list[Stimulus]:
    slots = [f"reference {number} {index}" for index in range(len(pictures))]
    return [Stimulus(slot, slot, "reference", picture.sha256) for slot, picture in zip(slots, pictures, strict=True)]


def _image(mark: str, image: Image) -> Stimulus:
    return Stimulus("", mark, "image", image.sha256, (image.width, image.height))


def _placed(side: str, stimulus: Stimulus) -> Stimulus:
    return Stimulus(side, stimulus.mark, stimulus.kind, stimulus.sha256, stimulus.size)
