"""What participants read: every sentence of a language, from one file."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.manifest import Record, first_mistake

FOLDER = Path(__file__).parent / "text"


class Welcome(Record):
    """The page of a visitor who has not joined."""

    heading: str
    body: str
    begin: str
    recruited: str


class Consent(Record):
    """What a participant agrees to."""

    heading: str
    body: tuple[str, ...]
    recruited: str
    agree: str


class Instructions(Record):
    """How to judge."""

    heading: str
    body: tuple[str, ...]
    cannot_tell: str
    practice_ahead: str
    next: str


class Practice(Record):
    """What marks a comparison that doesn't count, and what is said after one."""

    badge: str
    right: str
    wrong: str


class Trial(Record):
    """The words around two images."""

    question_one: str
    question_two: str
    question_more: str
    question_none: str
    question_concept: str
    question_quality: str
    concept: str
    reference: str
    left: str
    right: str
    cannot_tell: str
    left_image: str
    right_image: str
    progress: str
    too_soon: str
    undo: str
    images: str

    def question(self, concepts: int) -> str:
        """Return the first question for a case of so many concepts."""
        return {0: self.question_none, 1: self.question_one, 2: self.question_two}.get(concepts, self.question_more)


class Rest(Record):
    """The pages between: a break, the end of a session, a study that is not open just now."""

    break_heading: str
    break_body: str
    go_on: str
    session_heading: str
    session_body: str
    paused_heading: str
    paused_body: str


class Thanks(Record):
    """The last page."""

    heading: str
    body: str
    none: str
    code: str
    back: str
    close: str


class Trouble(Record):
    """What is said when something can't go on."""

    cookies: str
    storage: str


class Sentences(Record):
    """All sentences of a language."""

    title: str
    welcome: Welcome
    consent: Consent
    instructions: Instructions
    practice: Practice
    trial: Trial
    rest: Rest
    thanks: Thanks
    trouble: Trouble


def languages() -> tuple[str, ...]:
    """Return the languages there are, by their codes."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


@cache
def load_sentences(language: str) -> Sentences:
    """Return the sentences of a language; raise a UserError for one there is no file of, or whose file is wrong."""
    if language not in languages():
        raise UserError(f"language {language!r}: there is none; known: {', '.join(languages())}")
    path = FOLDER / f"{language}.toml"
    try:
        return Sentences.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}") from error
