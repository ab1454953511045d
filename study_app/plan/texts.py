"""Page texts of a language, from one file."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from evalkit.errors import UserError
from evalkit.run.file_record import Record, first_mistake
from study_app.plan.page_layout import MOST_AT_ONCE

FOLDER = Path(__file__).parent / "text"
EACH_CONCEPT = "each_concept"


class WelcomeText(Record):
    """Page of a visitor before joining."""

    heading: str
    body: str
    begin: str
    recruited: str


class ConsentText(Record):
    """What a participant agrees to."""

    heading: str
    body: tuple[str, ...]
    recruited: str
    duration: str
    payment: str
    agree: str
    decline: str
    declined_heading: str
    declined_body: str


class ScreenText(Record):
    """Screen check, and the page of those it refuses."""

    heading: str
    body: str
    plates: str
    plate: str
    number: str
    check: str
    too_small: str
    not_read: str
    refused_heading: str
    refused_body: str


class QuestionnaireText(Record):
    """The words around the questions at the end; the questions themselves are the design's."""

    heading: str
    body: str
    optional: str
    wrong: str
    this_one: str
    send: str


class EntryText(Record):
    """Questions before the study and about the instructions, and the pages of those who do not pass them."""

    before_heading: str
    before_body: str
    send: str
    comprehension_heading: str
    comprehension_body: str
    wrong: str
    practice_again: str
    out_heading: str
    out_answers: str
    out_tries: str
    checks_heading: str
    checks_body: str


class InstructionsText(Record):
    """How to judge."""

    heading: str
    pair: tuple[str, ...]
    best: tuple[str, ...]
    ranking: tuple[str, ...]
    zoom: str
    touch: str
    cannot_tell: str
    practice_ahead: str
    next: str


class PracticeText(Record):
    """Badge of and feedback on practice comparisons."""

    badge: str
    right: str
    wrong: str


class FurtherQuestions(Record):
    """Registry of the questions that `also_ask` can add about all images of a page: one field per name."""

    quality: str

    def further(self, name: str) -> str:
        """Return the wording of a further question."""
        return str(getattr(self, name))


class QuestionWording(FurtherQuestions):
    """What is asked about the images of a case with one, two, more or no concepts, about one concept, and further questions."""

    one: str
    two: str
    more: str
    none: str
    concept: str

    def of(self, concepts: int) -> str:
        """Return the first question for a case of so many concepts."""
        return {0: self.none, 1: self.one, 2: self.two}.get(concepts, self.more)


class QuestionWordings(Record):
    """The questions about two images, about several of which the best is picked, and about several that are ranked."""

    pair: QuestionWording
    best: QuestionWording
    ranking: QuestionWording


class ComparisonText(Record):
    """The words around the images."""

    concept: str
    reference: str
    left: str
    right: str
    cannot_tell: str
    left_image: str
    right_image: str
    image: str
    ranks: tuple[str, ...] = Field(min_length=MOST_AT_ONCE, max_length=MOST_AT_ONCE)
    order_empty: str
    confirm: str
    both_bad: str
    question_number: str
    yes: str
    no: str
    send: str
    missing: str
    grades: tuple[str, ...] = Field(min_length=7, max_length=7)
    slider: str
    slider_ends: tuple[str, ...] = Field(min_length=2, max_length=2)
    progress: str
    minutes_left: str
    too_soon: str
    undo: str
    images: str
    upper: str
    lower: str
    unseen: str


class BreakText(Record):
    """The pages between: a break, the end of a session, a study that is not open just now."""

    break_heading: str
    break_body: str
    go_on: str
    session_heading: str
    session_body: str
    paused_heading: str
    paused_body: str
    paused_partly: str
    waiting_heading: str
    waiting_body: str
    finish_now: str
    ended_heading: str
    ended_body: str
    ended_early: str


class ThanksText(Record):
    """The last page."""

    heading: str
    body: str
    none: str
    code: str
    back: str
    redirect: str
    close: str


class ErasedText(Record):
    """Page of a participant whose data were erased and who returns."""

    heading: str
    body: str


class BusyText(Record):
    """Page of a visitor when too many pages are open."""

    heading: str
    body: str


class TroubleText(Record):
    """Messages about problems."""

    cookies: str
    storage: str
    picture: str


class Sentences(Record):
    """All sentences of a language."""

    direction: Literal["ltr", "rtl"] = "ltr"
    title: str
    welcome: WelcomeText
    consent: ConsentText
    screen: ScreenText
    instructions: InstructionsText
    practice: PracticeText
    questions: QuestionWordings
    trial: ComparisonText
    rest: BreakText
    questionnaire: QuestionnaireText
    entry: EntryText
    thanks: ThanksText
    erased: ErasedText
    busy: BusyText
    trouble: TroubleText


# what `also_ask` can name
ALSO_ASK = (EACH_CONCEPT, *FurtherQuestions.model_fields)


@cache
def languages() -> tuple[str, ...]:
    """Return the languages there are, by their codes."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@cache
def load_sentences(language: str) -> Sentences:
    """Return the page texts of a language; raise a UserError if its file is missing or invalid."""
    if language not in languages():
        raise UserError(f"language {language!r}: has no texts; known languages: {', '.join(languages())}")
    path = FOLDER / f"{language}.toml"
    try:
        return Sentences.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}") from error
