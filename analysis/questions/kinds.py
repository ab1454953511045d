"""Registry of the kinds of questions: one file and one entry each."""

from analysis.questions.choice import ImageChoice
from analysis.questions.comment import Comment
from analysis.questions.graded import GradedPreference
from analysis.questions.question_kind import QuestionKind
from analysis.questions.ranking import ImageRanking
from analysis.questions.rating import ImageRating
from analysis.questions.slider import SliderPreference
from analysis.questions.yes_no import YesNo

QUESTION_KINDS: dict[str, QuestionKind] = {
    kind.name: kind
    for kind in (ImageChoice(), ImageRanking(), GradedPreference(), SliderPreference(), ImageRating(), YesNo(), Comment())
}
