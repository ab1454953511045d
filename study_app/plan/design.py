"""The design of a study: what `study.toml` fixes before the first judgment."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from sqlalchemy.orm import Session

from analysis.questions.question_kind import base_name
from db.models import Study
from db.session import keep
from evalkit.errors import UserError
from evalkit.run.file_record import Name, Record, Seed, first_mistake
from evalkit.run.manifest import Manifest
from study_app.plan.entry_checks import Comprehension, Practice
from study_app.plan.page_layout import MOST_AT_ONCE, Answer
from study_app.plan.questionnaire import Question
from study_app.plan.screen_check import ScreenRule
from study_app.plan.study_questions import StudyQuestion
from study_app.plan.texts import ALSO_ASK, EACH_CONCEPT

FILE_NAME = "study.toml"
# the key of a stored design that holds the sentences shown
WORDING = "wording"
Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Share = Annotated[float, Field(ge=0, le=0.5)]


class Selection(Record):
    """Which comparisons are judged; what is empty means all of them.

    `sample` takes so many cells (case and seed) for each pair of arms (or each set, where more are compared at once), the same
    ones for every pair, the cases equally often.
    """

    arms: tuple[Name, ...] = ()
    pairs: tuple[tuple[Name, Name], ...] = ()
    cases: tuple[Name, ...] = ()
    sample: int | None = Field(default=None, ge=1)


class Gold(Record):
    """A comparison whose answer is known: of this case and seed the image of one arm is better than that of the other."""

    case: Name
    seed: Seed
    better: Name
    worse: Name


class Checks(Record):
    """How many checks come per comparison judged: 0.05 is one after every twenty, at places drawn for each participant."""

    null_pairs: Share = 0.0
    repeats: Share = 0.0
    attention: Share = 0.0
    gold: Share = 0.0

    def any(self) -> bool:
        """Return whether there are checks at all."""
        return any((self.null_pairs, self.repeats, self.attention, self.gold))


class Sessions(Record):
    """When people rest: a break page after every `break_every` judgments, and at most `most` of them within any `hours`."""

    break_every: int | None = Field(default=None, ge=1)
    most: int | None = Field(default=None, ge=1)
    hours: float = Field(default=12.0, gt=0, le=168)


class Rules(Record):
    """Exclusion rules, applied after `after` judgments: failed checks, share of one side, median reaction time."""

    after: int = Field(default=20, ge=1)
    failed_checks: int | None = Field(default=None, ge=0)
    one_side: float | None = Field(default=None, ge=0.5, lt=1)
    median_seconds: float | None = Field(default=None, gt=0)
    # the first so many participants who judged are a pilot
    pilot: int | None = Field(default=None, ge=1)
    # ends the session of who failed more checks than `failed_checks`, kindly and at once
    end_session: bool = False


class Bonus(Record):
    """A payment on top for participants who judged so many comparisons and passed such a share of their checks."""

    amount: float = Field(gt=0, le=10_000)
    judged: int = Field(default=1, ge=1)
    checks: float = Field(default=0.0, ge=0, le=1)


class Entry(Record):
    """Where participants come from, and where they go when they are done: `{code}` in the address becomes their code.

    `completion_code` is one code for all, as on Prolific; without it every participant gets a different code.
    """

    recruitment: Literal["open", "prolific", "mturk"] = "open"
    completion_url: str | None = Field(default=None, pattern=r"^https://[!-~]+$")
    completion_code: Code | None = None
    # codes of other outcomes; without one, those people are shown none
    codes: dict[Literal["screened_out", "full", "partly", "no_consent"], Code] = Field(default_factory=dict)
    # after so many seconds the last page leads to `completion_url` by itself; the link stays
    redirect_seconds: int | None = Field(default=None, ge=1, le=600)
    bonus: Bonus | None = None
    # told on the welcome and the consent page
    minutes: int | None = Field(default=None, ge=1, le=1000)
    payment: str | None = Field(default=None, min_length=1, max_length=200)


class Design(Record):
    """How a run is judged."""

    per_comparison: int = Field(default=5, ge=1, le=1000)
    # the first `per_comparison` people judge all of it; otherwise anyone judges any comparison that has room
    same_people: bool = False
    # the most comparisons one participant judges
    per_participant: int | None = Field(default=None, ge=1)
    # the images on one page, each of another arm; of more than two the best is picked, or all are ranked
    at_once: int = Field(default=2, ge=2, le=MOST_AT_ONCE)
    answer: Answer = "best"
    cannot_tell: bool = False
    # images of different pixel sizes or formats are resized to one size; otherwise such runs are refused
    mixed_sizes: bool = False
    # whether `evalkit judge` may send images to another machine, with --send-images-to
    images_may_leave: bool = True
    # asked about the same images after the first question
    also_ask: tuple[str, ...] = ()
    # further questions of any kind, after those of `also_ask`
    questions: tuple[StudyQuestion, ...] = ()
    # the most places that people without a judgment hold at once, as a share of the judgments still to come
    newcomer_share: float = Field(default=0.8, gt=0, le=1)
    # the question whose result the report names first: "overall" is the first one
    primary: str = "overall"
    # answers that come sooner are not taken
    minimum_seconds: float = Field(default=0.0, ge=0, le=60)
    seed: int = Field(default=0, ge=0, lt=2**63)
    language: str = "en"
    # sentences that replace the defaults, by language and key: text.en.consent.heading
    text: dict[str, dict[str, Any]] = Field(default_factory=dict)
    # a PNG or JPEG in the run folder
    logo: str | None = Field(default=None, pattern=r"^[^/\\]+$")
    # of the analysis as `evalkit plan --freeze` wrote it down; `analyze --plan` then takes no other
    plan_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    comparisons: Selection = Selection()
    checks: Checks = Checks()
    gold: tuple[Gold, ...] = ()
    sessions: Sessions = Sessions()
    entry: Entry = Entry()
    rules: Rules = Rules()
    screen: ScreenRule | None = None
    questionnaire: tuple[Question, ...] = ()
    comprehension: Comprehension = Comprehension()
    practice: Practice = Practice()

    @model_validator(mode="after")
    def _fits_together(self) -> "Design":
        if strangers := set(self.also_ask) - set(ALSO_ASK):
            raise ValueError(f"also_ask: has no question {min(strangers)!r}; choose from {', '.join(ALSO_ASK)}")
        if len(set(self.also_ask)) < len(self.also_ask):
            raise ValueError("also_ask: names a question twice")
        if self.checks.gold > 0 and not self.gold:
            raise ValueError("checks.gold: needs comparisons whose answer is known; add [[gold]] tables")
        if self.gold and self.checks.gold == 0:
            raise ValueError("gold: is never shown while checks.gold is 0; give it a share such as 0.02")
        if self.same_people and self.per_participant is not None:
            raise ValueError("per_participant: the same people judge all of it; give one of same_people and per_participant")
        self._check_questions()
        if self.rules.end_session and self.rules.failed_checks is None:
            raise ValueError("rules.end_session: needs failed_checks; state how many checks may fail")
        names = [question.name for question in self.questionnaire]
        if len(set(names)) < len(names):
            raise ValueError("questionnaire: has a name twice; give each question its own")
        if self.answer == "ranking" and self.at_once == 2:
            raise ValueError("answer: a ranking needs at_once of 3 or more")
        if self.entry.redirect_seconds is not None and self.entry.completion_url is None:
            raise ValueError("entry.redirect_seconds: needs completion_url; state where the last page leads")
        if self.at_once > 2 and self.comparisons.pairs:
            raise ValueError("comparisons.pairs: are for two images at a time; name arms instead")
        if self.at_once > 2 and self.rules.one_side is not None:
            raise ValueError("rules.one_side: is for two images at a time; leave it out where at_once is more")
        return self

    def _check_questions(self) -> None:
        names = [question.name for question in self.questions]
        if len(set(names)) < len(names):
            raise ValueError("questions: has a name twice")
        for question in self.questions:
            fewest, most = question.answer_kind.counts
            if not fewest <= self.at_once <= most:
                raise ValueError(
                    f"questions.{question.name}: kind {question.kind} is for {fewest} to {most} images at once; "
                    f"at_once is {self.at_once}"
                )
        comparing = [question.name for question in self.questions if question.answer_kind.measure != "count"]
        if self.primary not in ("overall", *self.also_ask, *comparing):
            raise ValueError(
                f"primary: is no question with a result; known: {', '.join(('overall', *self.also_ask, *comparing))}"
            )

    @property
    def before(self) -> tuple[Question, ...]:
        """Return the questions before the instructions."""
        return tuple(question for question in self.questionnaire if question.when == "before")

    @property
    def after(self) -> tuple[Question, ...]:
        """Return the questions after the last comparison."""
        return tuple(question for question in self.questionnaire if question.when == "after")

    @property
    def refuses(self) -> bool:
        """Return whether a screen that fails its check is refused."""
        return self.screen is not None and self.screen.on_failure == "refuse"

    def participants_needed(self, comparisons: int) -> int:
        """Return the smallest number of participants who can give all judgments of so many comparisons."""
        if self.same_people or self.per_participant is None:
            return self.per_comparison
        return max(self.per_comparison, -(-comparisons * self.per_comparison // self.per_participant))

    def question_names(self, concepts: int) -> tuple[str, ...]:
        """Return what is asked about a comparison of so many concepts, in order; the first answer is the judgment."""
        further: list[str] = []
        for question in self.also_ask:
            further += [f"concept {number}" for number in range(concepts)] if question == EACH_CONCEPT else [question]
        for asked in self.questions:
            further += asked.names(concepts)
        return ("overall", *further)

    def question(self, name: str) -> StudyQuestion | None:
        """Return the question of `[[questions]]` stored under a name, None for the first one and those of `also_ask`."""
        base = base_name(name)
        return next((question for question in self.questions if question.name == base), None)

    def check_names(self, manifest: Manifest) -> None:
        """Raise a UserError for an arm, case or seed that the run does not have."""
        arms, cases = [arm.label for arm in manifest.arms], {case.id: case.seeds for case in manifest.cases}
        chosen = self.comparisons
        named = [("comparisons.arms", arm) for arm in chosen.arms]
        named += [("comparisons.pairs", arm) for pair in chosen.pairs for arm in pair]
        named += [("gold", arm) for gold in self.gold for arm in (gold.better, gold.worse)]
        for field, arm in named:
            if arm not in arms:
                raise UserError(f"{FILE_NAME}: {field}: the run has no arm {arm!r}; known: {', '.join(arms)}")
        for field, case in [("comparisons.cases", case) for case in chosen.cases] + [("gold", g.case) for g in self.gold]:
            if case not in cases:
                raise UserError(
                    f"{FILE_NAME}: {field}: the run has no case {case!r}; the first ones: {', '.join([*cases][:5])}"
                )
        for gold in self.gold:
            if gold.seed not in cases[gold.case]:
                raise UserError(f"{FILE_NAME}: gold: case {gold.case} has no seed {gold.seed}; known: {cases[gold.case]}")
            if gold.better == gold.worse:
                raise UserError(f"{FILE_NAME}: gold: {gold.better} can't be better than itself; name two different arms")
        if self.checks.attention > 0 and sum(1 for concept in manifest.concepts if concept.references) < 2:
            raise UserError(
                f"{FILE_NAME}: checks.attention: needs references of at least two concepts; add references or set it to 0"
            )

    @classmethod
    def of(cls, study: Study) -> "Design":
        """Return the design a study was begun with."""
        return cls.model_validate({key: value for key, value in study.design.items() if key != WORDING})


def design_of(session: Session, study_id: int) -> Design:
    """Return the design of a study, checked once: it is frozen when the first participant joins."""
    return keep(session, ("design", study_id), lambda: Design.of(session.get_one(Study, study_id)))


def read_design(run: Path) -> Design | None:
    """Return the design in the run's `study.toml`, None without such a file.

    Raises:
        UserError: the file is not TOML, or has unknown keys or invalid values; all mistakes in one line.
    """
    path = run / FILE_NAME
    if not path.exists():
        return None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        if isinstance(content.get("text"), str):
            content["text"] = _read_text(run / content["text"])
        return Design.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML ({error}); fix the file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def _read_text(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML ({error}); fix the file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the name in `text`") from error
