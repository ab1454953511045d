"""The order of the pages."""

from hypothesis import given
from hypothesis import strategies as st

from study_app.flow import Progress, Step, next_step


def test_the_pages_come_in_order() -> None:
    assert next_step(Progress()) is Step.CONSENT
    assert next_step(Progress(consented=True)) is Step.INSTRUCTIONS
    assert next_step(Progress(consented=True, instructed=True)) is Step.PRACTICE
    assert next_step(Progress(consented=True, instructed=True, practiced=True)) is Step.TRIAL
    assert next_step(Progress(consented=True, instructed=True, practiced=True, finished=True)) is Step.THANKS


@given(st.builds(Progress))
def test_nobody_judges_without_having_agreed(progress: Progress) -> None:
    assert progress.consented or next_step(progress) is Step.CONSENT
