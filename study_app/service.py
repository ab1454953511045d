"""One running study: everything the pages and the image route do goes through here, and through here alone to the database."""

import random
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Assignment, CaseConcept, Concept, Judgment, Participant, Study
from db.moments import utc_now
from db.session import Database, read, write
from evalkit.errors import UserError
from study_app.assignment import remaining, reserve
from study_app.begin import find_study
from study_app.blinding import REFERENCE_SIDE, Blinding, Kind
from study_app.design import Design
from study_app.flow import Progress
from study_app.judge import Choice, Recorded, record_judgment
from study_app.participants import Mark, add_participant, find_participant, mark, progress_of
from study_app.sentences import Sentences, load_sentences

# More would only make the pictures smaller.
MOST_REFERENCES = 5
PRACTICES = 2


@dataclass(frozen=True)
class Visitor:
    """A participant as the pages know them."""

    id: int
    progress: Progress
    completion_code: str


@dataclass(frozen=True)
class ShownConcept:
    """A concept above the images: its letter, its plain word, the URLs of its pictures."""

    letter: str
    word: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """What one page of two images shows; `owner` is the assignment's id, or the number of a practice comparison."""

    owner: int
    concepts: tuple[ShownConcept, ...]
    left: str
    right: str
    # width and height in pixels of the larger of the two images
    size: tuple[int, int]
    done: int
    total: int


@dataclass(frozen=True)
class _Stimulus:
    slot: str
    kind: Kind
    sha256: str
    # width and height in pixels; None where the page has no need of it
    size: tuple[int, int] | None = None


class StudyService:
    """The study of one run folder, open in one database."""

    def __init__(self, database: Database, run: Path) -> None:
        study = find_study(database, run)
        if study is None:
            raise UserError(f"{run}: no study was begun; begin it with `evalkit study init {run}`")
        self.database = database
        self.study_id = study.id
        self.design = Design.of(study)
        self.sentences: Sentences = load_sentences(self.design.language)
        self.blinding = Blinding(run)

    def join(self) -> str:
        """Add a participant and return the token their browser is to keep."""
        with write(self.database) as session:
            return add_participant(session, self.study_id, utc_now())[1]

    def visitor(self, token: str | None) -> Visitor | None:
        """Return whom a token belongs to; None for no token or one of nobody."""
        if not token:
            return None
        with read(self.database) as session:
            found = find_participant(session, self.study_id, token)
            return None if found is None else Visitor(found.id, progress_of(found), found.completion_code)

    def finish_step(self, participant_id: int, step: Mark) -> None:
        """Note that the participant finished a step."""
        with write(self.database) as session:
            mark(session, participant_id, step, utc_now())

    def trial(self, participant_id: int) -> Trial | None:
        """Return the comparison to judge now, its lease renewed; None when none is left, which ends the participant's study."""
        with write(self.database) as session:
            assignment = reserve(session, participant_id, utc_now())
            if assignment is None:
                mark(session, participant_id, "finished_at", utc_now())
                return None
            participant = session.get_one(Participant, participant_id)
            mine = Assignment.participant_id == participant_id
            done = session.scalar(select(func.count()).select_from(Judgment).join(Assignment).where(mine)) or 0
            concepts, stimuli = _stimuli(session, assignment)
            total = done + remaining(session, participant)
        return self._show(assignment.id, f"assignment {assignment.id}", concepts, stimuli, done, total)

    def practice(self, participant_id: int) -> tuple[Trial, ...]:
        """Return the comparisons for practice: pictures of two concepts, one of which is asked for. They count nowhere."""
        with read(self.database) as session:
            shown = self._practice_stimuli(session, participant_id)
        return tuple(
            self._show(number, f"practice {participant_id} {number}", [concept], stimuli, number, len(shown))
            for number, (concept, stimuli) in enumerate(shown)
        )

    def judge(self, participant_id: int, assignment_id: int, choice: Choice) -> Recorded:
        """Record the answer to an assignment; a second one changes nothing."""
        with write(self.database) as session:
            return record_judgment(session, participant_id, assignment_id, choice, utc_now())

    def stimulus(self, participant_token: str | None, url_token: str) -> bytes | None:
        """Return the image behind a URL token, None unless it is on the page this participant sees now."""
        visitor = self.visitor(participant_token)
        if visitor is None:
            return None
        with read(self.database) as session:
            owners: list[tuple[str, list[_Stimulus]]] = []
            mine = select(Assignment).where(Assignment.participant_id == visitor.id, Assignment.state == "open")
            assignment = session.scalar(mine)
            if assignment is not None:
                owners.append((f"assignment {assignment.id}", _stimuli(session, assignment)[1]))
            if not visitor.progress.practiced:
                practice = self._practice_stimuli(session, visitor.id)
                owners += [(f"practice {visitor.id} {number}", stimuli) for number, (_, stimuli) in enumerate(practice)]
        for owner, stimuli in owners:
            for stimulus in stimuli:
                if self.blinding.token(owner, stimulus.slot) == url_token:
                    return self.blinding.serve(stimulus.kind, stimulus.sha256, url_token)
        return None

    def _show(self, identifier: int, owner: str, concepts: list[str], stimuli: list[_Stimulus], done: int, total: int) -> Trial:
        urls = {stimulus.slot: f"/i/{self.blinding.token(owner, stimulus.slot)}" for stimulus in stimuli}
        shown = tuple(
            ShownConcept(
                letter=_letter(number),
                word=word,
                references=tuple(url for slot, url in urls.items() if slot.startswith(f"reference {number} ")),
            )
            for number, word in enumerate(concepts)
        )
        sizes = [stimulus.size for stimulus in stimuli if stimulus.size is not None]
        size = max(sizes, default=(REFERENCE_SIDE, REFERENCE_SIDE))
        return Trial(identifier, shown, urls["left"], urls["right"], size, done, total)

    def _practice_stimuli(self, session: Session, participant_id: int) -> list[tuple[str, list[_Stimulus]]]:
        participant = session.get_one(Participant, participant_id)
        concepts = _concepts_with_references(session, self.study_id)
        if len(concepts) < 2:
            return []
        rng = random.Random(f"practice {participant.seed}")
        rng.shuffle(concepts)
        shown = []
        for number in range(PRACTICES):
            asked, other = concepts[(2 * number) % len(concepts)], concepts[(2 * number + 1) % len(concepts)]
            pictures = [reference.sha256 for reference in asked.references]
            pair = [pictures[-1], other.references[-1].sha256]
            rng.shuffle(pair)
            above = pictures[:-1][:MOST_REFERENCES] or pictures
            stimuli = [_Stimulus(f"reference 0 {index}", "reference", sha256) for index, sha256 in enumerate(above)]
            stimuli += [_Stimulus("left", "reference", pair[0]), _Stimulus("right", "reference", pair[1])]
            shown.append((asked.class_word, stimuli))
        return shown


def _stimuli(session: Session, assignment: Assignment) -> tuple[list[str], list[_Stimulus]]:
    """Return the concepts' plain words and all pictures of an assignment's page."""
    comparison = assignment.comparison
    sides = [comparison.image_a, comparison.image_b]
    left, right = sides[assignment.left], sides[1 - assignment.left]
    links = session.scalars(
        select(CaseConcept).where(CaseConcept.case_id == comparison.case_id).order_by(CaseConcept.position)
    ).all()
    stimuli = [
        _Stimulus(f"reference {number} {index}", "reference", reference.sha256)
        for number, link in enumerate(links)
        for index, reference in enumerate(link.concept.references[:MOST_REFERENCES])
    ]
    stimuli += [
        _Stimulus(slot, "image", image.sha256, (image.width, image.height))
        for slot, image in (("left", left), ("right", right))
    ]
    return [link.concept.class_word for link in links], stimuli


def _concepts_with_references(session: Session, study_id: int) -> list[Concept]:
    run_id = select(Study.run_id).where(Study.id == study_id).scalar_subquery()
    concepts = session.scalars(select(Concept).where(Concept.run_id == run_id).order_by(Concept.id)).all()
    return [concept for concept in concepts if concept.references]


def _letter(number: int) -> str:
    """Return A, B, ... for 0, 1, ...; past Z it counts on as A2, B2, ..."""
    return chr(ord("A") + number % 26) + ("" if number < 26 else str(number // 26 + 1))
