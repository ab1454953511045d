"""One running study: everything the pages and the image route do goes through here, and through here alone to the database."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from db.models import Participant, Screen, Study
from db.session import Database, read, write, writers_meet
from db.utc import utc_now
from evalkit.errors import UserError
from study_app.plan.blinding import REFERENCE_SIDE, Blinding
from study_app.plan.design import Design
from study_app.plan.entry_checks import Result, store_before, store_comprehension, store_practice
from study_app.plan.initialize import find_study
from study_app.plan.log_start import start_log
from study_app.plan.questionnaire import store_replies
from study_app.plan.recruitment import Recruited
from study_app.plan.screen_check import Failure, ScreenRule, ScreenSize, check_screen, plates_of
from study_app.plan.texts import Sentences
from study_app.plan.wording import languages_of, logo_of, sentences_of
from study_app.service import stimuli, tasks
from study_app.service.check_answers import record_check_answer
from study_app.service.checks import answer_check
from study_app.service.drafts import Drafts
from study_app.service.erased import is_erased
from study_app.service.openness import Openness, may_get_more, openness
from study_app.service.participant_state import Person, find_person
from study_app.service.participants import (
    Mark,
    add_participant,
    find_identity,
    find_participant,
    hash_token,
    mark,
    progress_of,
    welcome_recruited,
)
from study_app.service.record_judgment import Choice, Recorded, Timing, record_answer, record_judgment
from study_app.service.undo import undo
from study_app.service.view_models import ShownConcept, TrialPage, Turn, Visitor, letter

# So many participants' pages a process remembers; more than ever judge at once.
MOST_PAGES = 1000


class StudyService:
    """The study of one run folder, open in one database."""

    def __init__(self, database: Database, run: Path) -> None:
        study = find_study(database, run)
        if study is None:
            raise UserError(f"{run}: the study has not been initialized; run `evalkit study init {run}`")
        with write(database) as session:
            start_log(session, study.id)
        self.database = database
        self.study_id = study.id
        self.design = Design.of(study)
        self.languages = languages_of(study)
        self.logo = logo_of(study)
        self._wording = {language: sentences_of(study, language) for language in self.languages}
        self.blinding = Blinding(run)
        self.drafts = Drafts()
        # what each participant's page shows and may show next, as this process last served it
        self._pages: dict[int, tuple[stimuli.PageStimuli, ...]] = {}

    @property
    def sentences(self) -> Sentences:
        """Return the page texts in the design's language."""
        return self.sentences_in(self.design.language)

    def sentences_in(self, language: str) -> Sentences:
        """Return the page texts in a language that the study offers, as they were when it began."""
        return self._wording[language]

    def join(self, recruited: Recruited | None = None, language: str | None = None) -> str:
        """Add a participant, or find the one a recruiter sent before, and return the token their browser is to keep."""
        with write(self.database) as session:
            if recruited is not None:
                return welcome_recruited(session, self.study_id, utc_now(), recruited, language)[1]
            return add_participant(session, self.study_id, utc_now(), language=language)[1]

    def is_erased(self, token: str | None, recruited: Recruited | None = None) -> bool:
        """Return whether a visitor is a participant whose identity was erased on request."""
        with read(self.database) as session:
            return is_erased(session, self.study_id, hash_token(token) if token else None, recruited)

    def is_known(self, recruited: Recruited) -> bool:
        """Return whether a recruiter sent this person before."""
        with read(self.database) as session:
            return find_identity(session, self.study_id, recruited) is not None

    def openness(self) -> Openness:
        """Return whether a newcomer would be given a comparison now."""
        with read(self.database) as session:
            return openness(session, self.study_id, self.design)

    def visitor(self, token: str | None, turn: Turn | None = None) -> Visitor | None:
        """Return the participant of a token; None for a missing or unknown token.

        `turn` is the result of the last answer: if it is this visitor's, no query is needed.
        """
        if not token:
            return None
        known = None if turn is None else turn.visitor
        if known is not None and known.token_sha256 == hash_token(token):
            return known
        with read(self.database) as session:
            participant = find_participant(session, self.study_id, token)
            return None if participant is None else self._visitor(session, participant)

    def finish_step(self, participant_id: int, step: Mark) -> None:
        """Note that the participant finished a step."""
        with write(self.database) as session:
            mark(session, participant_id, step, utc_now())

    def plates(self, participant_id: int) -> tuple[str, ...]:
        """Return the colour plates the participant reads now."""
        with read(self.database) as session:
            screen = session.get(Screen, participant_id)
            return plates_of(session.get_one(Participant, participant_id), 0 if screen is None else screen.attempts)

    def check_screen(self, participant_id: int, page: ScreenSize, numbers: list[str]) -> Failure | None:
        """Store what the participant's screen shows, and return what the design finds wanting."""
        rule = self.design.screen or ScreenRule()
        with write(self.database) as session:
            return check_screen(session, rule, participant_id, page, numbers, utc_now())

    def reply(self, participant_id: int, given: Mapping[str, str]) -> list[str]:
        """Store the participant's replies; return the questions whose reply can't be, in which case nothing is stored."""
        with write(self.database) as session:
            return store_replies(session, self.design.after, participant_id, given, utc_now())

    def reply_before(self, participant_id: int, given: Mapping[str, str]) -> list[str]:
        """Store the replies before the study; return the questions whose reply can't be, in which case nothing is stored."""
        with write(self.database) as session:
            return store_before(session, self.design.before, participant_id, given, utc_now())

    def comprehend(self, participant_id: int, given: Mapping[str, str]) -> list[str]:
        """Store a try at the comprehension questions; return those not answered rightly."""
        with write(self.database) as session:
            return store_comprehension(session, self.design.comprehension, participant_id, given, utc_now())

    def finish_practice(self, participant_id: int, right: int) -> Result:
        """Store a round of practice with so many right answers, and return whether it is passed, to be repeated, or the end."""
        with write(self.database) as session:
            if self.design.practice.pass_mark is None:
                mark(session, participant_id, "practiced_at", utc_now())
                return "passed"
            result = store_practice(session, self.design.practice, participant_id, right, utc_now())
            if result == "passed":
                mark(session, participant_id, "practiced_at", utc_now())
            return result

    def has_judged(self, participant_id: int) -> bool:
        """Return whether the participant judged anything."""
        with read(self.database) as session:
            return tasks.count_judged(session, participant_id) > 0

    def turn(self, participant_id: int) -> Turn:
        """Return what comes next: what to judge now, its lease renewed; when nothing is left, the participant has finished."""
        with write(self.database) as session:
            turn, shown = self._turn(session, find_person(session, participant_id))
        self._tell(participant_id, shown)
        return turn

    def trial(self, participant_id: int) -> TrialPage | None:
        """Return what to judge now; None when nothing is left, for now or for good."""
        return self.turn(participant_id).trial

    def practice(self, participant_id: int) -> tuple[TrialPage, ...]:
        """Return the comparisons for practice: images of two concepts, one of which is asked for. They count nowhere."""
        with read(self.database) as session:
            practices = stimuli.of_practice(session, participant_id, self.design.at_once)
        return tuple(
            replace(
                self._show("practice", number, practice.shown, "overall", number, len(practices)),
                right_answer=practice.right_answer,
            )
            for number, practice in enumerate(practices)
        )

    def answer(self, participant_id: int, trial: TrialPage, choice: Choice, timing: Timing) -> Recorded:
        """Record the answer to what a page asked; a second one changes nothing, one too soon for the design is not taken."""
        self._tell(participant_id, ())
        with write(self.database) as session:
            return self._record(session, find_person(session, participant_id), trial, choice, timing)

    def answer_and_turn(self, participant_id: int, trial: TrialPage, choice: Choice, timing: Timing) -> tuple[Recorded, Turn]:
        """Record an answer as `answer` does, and return what comes next as `turn` does; in one commit if possible."""
        self._tell(participant_id, ())
        with write(self.database) as session:
            person = find_person(session, participant_id)
            recorded = self._record(session, person, trial, choice, timing)
            # with several writers, the lock of the log must be the last lock of a transaction
            alone = not writers_meet(session)
            turn, shown = self._turn(session, person) if alone else (None, ())
        if turn is None:
            return recorded, self.turn(participant_id)
        self._tell(participant_id, shown)
        return recorded, turn

    def undo(self, participant_id: int, assignment_id: int) -> bool:
        """Take back the participant's last judgment, if it is of this assignment and fresh; return whether it was undone."""
        self._tell(participant_id, ())
        with write(self.database) as session:
            if session.get_one(Study, self.study_id).locked_at is not None:
                return False
            return undo(session, participant_id, assignment_id, utc_now())

    def stimulus(self, participant_token: str | None, url_token: str) -> bytes | None:
        """Return the image behind a URL token, None unless it is on the page this participant sees now, or comes next."""
        visitor = self.visitor(participant_token)
        if visitor is None:
            return None
        image = self._among(self._pages.get(visitor.id, ()), url_token)
        return self._among(self._on_page(visitor), url_token) if image is None else image

    def _on_page(self, visitor: Visitor) -> list[stimuli.PageStimuli]:
        """Return what a participant's page shows and may show next, from the database."""
        with read(self.database) as session:
            pages = [task.shown for task in tasks.open_tasks(session, self.design, visitor.id)]
            if not visitor.progress.practiced:
                pages += [practice.shown for practice in stimuli.of_practice(session, visitor.id, self.design.at_once)]
            elif not visitor.progress.finished:
                ahead = tasks.upcoming(session, self.design, visitor.id, utc_now())
                pages += [ahead] if ahead is not None else []
        return pages

    def _among(self, pages: Iterable[stimuli.PageStimuli], url_token: str) -> bytes | None:
        """Return the image with this token among these pages' images."""
        for shown in pages:
            for stimulus in shown.stimuli:
                if self._url(shown, stimulus) == f"/i/{url_token}":
                    return self.blinding.serve(stimulus.kind, stimulus.sha256, url_token)
        return None

    def _tell(self, participant_id: int, shown: tuple[stimuli.PageStimuli, ...]) -> None:
        """Remember what a participant's page shows, of the latest ones: without, the database is asked for every image."""
        self._pages.pop(participant_id, None)
        if shown:
            self._pages[participant_id] = shown
        while len(self._pages) > MOST_PAGES:
            self._pages.pop(next(iter(self._pages)), None)

    def _visitor(self, session: Session, person: Person) -> Visitor:
        progress = progress_of(session, person, self.design)
        return Visitor(person.id, progress, person.completion_code, person.language, person.token_sha256)

    def _record(self, session: Session, person: Person, trial: TrialPage, choice: Choice, timing: Timing) -> Recorded:
        now = utc_now()
        if self.design.minimum_seconds > 0 and self._too_soon(tasks.open_tasks(session, self.design, person.id), now):
            return Recorded.TOO_SOON
        if trial.kind == "check" and trial.question != "overall":
            return record_check_answer(session, self.design, person.id, trial.owner, trial.question, choice, now, timing)
        if trial.kind == "check":
            return answer_check(session, self.design, person.id, trial.owner, choice, now, timing)
        if trial.question != "overall":
            return record_answer(session, person.id, trial.owner, trial.question, choice, now, timing)
        return record_judgment(session, person, trial.owner, choice, now, timing)

    def _turn(self, session: Session, person: Person) -> tuple[Turn, tuple[stimuli.PageStimuli, ...]]:
        """Return what comes next for a participant, and what their page shows and may show next."""
        now = utc_now()
        if person.paused_at is not None or person.locked_at is not None:
            return Turn(None, is_open=False, is_locked=person.locked_at is not None), ()
        if tasks.is_ended_by_checks(session, self.design, person.id):
            return Turn(None, is_ended=True), ()
        until = tasks.resting_until(session, self.design.sessions, person.id, now)
        if until is not None:
            return Turn(None, resting_until=until), ()
        page = tasks.next_page(session, self.design, person, now)
        if page is None and may_get_more(session, self.design, person):
            return Turn(None, is_waiting=True), ()
        if page is None:
            mark(session, person.id, "finished_at", now)
            return Turn(None), ()
        task, ahead = page.task, page.ahead
        # in an order that carries no information, so the order of requests carries none either
        preloaded = sorted(self._url(ahead, stimulus) for stimulus in ahead.stimuli) if ahead else []
        trial = self._show(task.kind, task.id, task.shown, task.question, page.done, page.total)
        trial = replace(trial, upcoming=tuple(preloaded), undoable=page.undoable, minutes_left=page.minutes_left)
        return Turn(trial, self._visitor(session, person)), (task.shown,) if ahead is None else (task.shown, ahead)

    def _too_soon(self, open_tasks: list[tasks.ParticipantTask], now: datetime) -> bool:
        shortest = timedelta(seconds=self.design.minimum_seconds)
        return any(task.question == "overall" and now - task.since < shortest for task in open_tasks)

    def _url(self, shown: stimuli.PageStimuli, stimulus: stimuli.Stimulus) -> str:
        return f"/i/{self.blinding.token(shown.owner, stimulus.mark)}"

    def _show(
        self,
        kind: Literal["comparison", "check", "practice"],
        owner: int,
        shown: stimuli.PageStimuli,
        question: str,
        done: int,
        total: int,
    ) -> TrialPage:
        urls = {stimulus.slot: self._url(shown, stimulus) for stimulus in shown.stimuli}
        concepts = tuple(
            ShownConcept(
                letter=letter(number),
                word=word,
                references=tuple(url for slot, url in urls.items() if slot.startswith(f"reference {number} ")),
            )
            for number, word in enumerate(shown.words)
        )
        names = ("overall",) if kind == "practice" else self.design.question_names(len(shown.words))
        asked = self.design.question(question)
        sizes = [stimulus.size for stimulus in shown.stimuli if stimulus.size is not None]
        return TrialPage(
            kind=kind,
            owner=owner,
            question=question,
            key=f"practice-{owner}" if kind == "practice" else self.blinding.token(shown.owner, question)[:12],
            concepts=concepts,
            places=shown.places,
            images=tuple(urls[position] for position in shown.places),
            ranking=(self.design.answer if asked is None else asked.kind) == "ranking" and len(shown.places) > 2,
            size=max(sizes, default=(REFERENCE_SIDE, REFERENCE_SIDE)),
            done=done,
            total=total,
            question_number=names.index(question) + 1,
            question_count=len(names),
        )
