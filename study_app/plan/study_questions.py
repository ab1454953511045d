"""Further questions of a design: `[[questions]]` in `study.toml`, of any kind in the registry of kinds."""

from typing import Literal

from pydantic import Field, model_validator

from analysis.questions.kinds import QUESTION_KINDS
from analysis.questions.question_kind import AnswerScale, QuestionKind
from evalkit.plural import plural
from evalkit.run.file_record import Name, Record
from study_app.plan.questionnaire import Translation

KindName = Literal["choice", "ranking", "graded", "slider", "rating", "yes_no", "comment"]
RESERVED = ("overall", "each_concept", "concept", "quality")
# a rating of more values than this is a slider
MOST_BUTTONS = 11
MOST_VALUES = 1001


class StudyQuestion(Record):
    """A question about the images of a page, asked after the first one.

    `options` replace the labels of a graded preference (one per step), the two ends of a rating, or yes and no. With
    `per_concept` it is asked for each concept of the case in turn, and `{concept}` in its text becomes the concept.
    """

    name: Name
    text: str = Field(min_length=1)
    kind: KindName = "choice"
    per_concept: bool = False
    options: tuple[str, ...] = ()
    # steps of a graded preference
    steps: Literal[5, 7] = 7
    # of a rating
    least: float = 1.0
    most: float = 5.0
    step: float = Field(default=1.0, gt=0)
    cannot_tell: bool = False
    both_bad: bool = False
    # of a comment
    required: bool = False
    translations: dict[str, Translation] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> "StudyQuestion":
        if self.name in RESERVED:
            raise ValueError(f"name: {self.name!r} is taken by evalkit; choose another name")
        if self.most <= self.least:
            raise ValueError("most: is not larger than least; give a larger number")
        if self.kind == "rating" and not 2 <= self.scale.values <= MOST_VALUES:
            raise ValueError(f"step: gives {plural(self.scale.values, 'value')}; a rating has 2 to {MOST_VALUES}")
        if abs((self.most - self.least) / self.step - round((self.most - self.least) / self.step)) > 1e-6:
            raise ValueError("step: does not lead from least to most; choose one that divides their difference")
        labels = {"graded": self.steps, "slider": 2, "rating": 2, "yes_no": 2}.get(self.kind, 0)
        if self.options and len(self.options) != labels:
            raise ValueError(f"options: a question of kind {self.kind} has {plural(labels, 'label')} or none")
        if self.both_bad and self.kind != "choice":
            raise ValueError("both_bad: is for questions of kind choice; leave it out")
        if self.cannot_tell and self.kind not in ("choice", "ranking"):
            raise ValueError("cannot_tell: is for questions of kind choice or ranking; leave it out")
        if self.per_concept and "{concept}" not in self.text:
            raise ValueError("text: of a question per concept needs {concept} where the concept is named")
        for language, translation in self.translations.items():
            if len(translation.options) != len(self.options):
                raise ValueError(f"translations.{language}: needs {plural(len(self.options), 'option')}, in the same order")
        return self

    @property
    def answer_kind(self) -> QuestionKind:
        """Return the kind of its answers."""
        return QUESTION_KINDS[self.kind]

    @property
    def scale(self) -> AnswerScale:
        """Return what it offers."""
        return AnswerScale(
            self.steps, self.least, self.most, self.step, self.cannot_tell, self.both_bad, required=self.required
        )

    def names(self, concepts: int) -> tuple[str, ...]:
        """Return the names under which it is stored for a case of so many concepts."""
        return tuple(f"{self.name} {number}" for number in range(concepts)) if self.per_concept else (self.name,)

    def in_language(self, language: str) -> Translation:
        """Return the question as it is shown."""
        return self.translations.get(language) or Translation(text=self.text, options=self.options)
