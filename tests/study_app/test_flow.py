"""The order of the pages."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from study_app.plan.flow import Progress, Step, next_step


def test_the_pages_come_in_order() -> None:
    assert next_step(Progress()) is Step.CONSENT
    assert next_step(Progress(consented=True)) is Step.SCREEN
    assert next_step(Progress(consented=True, screened=True, refused=True)) is Step.REFUSED
    assert next_step(Progress(consented=True, screened=True)) is Step.INSTRUCTIONS
    before = Progress(consented=True, screened=True, asked_before=False)
    assert next_step(before) is Step.BEFORE
    assert next_step(replace(before, asked_before=True, instructed=True, comprehended=False)) is Step.COMPREHENSION
    ready = Progress(consented=True, screened=True, instructed=True, practiced=True)
    assert next_step(replace(ready, practiced=False)) is Step.PRACTICE
    assert next_step(ready) is Step.TRIAL
    assert next_step(replace(ready, finished=True)) is Step.QUESTIONNAIRE
    assert next_step(replace(ready, finished=True, questioned=True)) is Step.THANKS


@given(st.builds(Progress))
def test_nobody_judges_without_having_agreed(progress: Progress) -> None:
    assert progress.consented or next_step(progress) is Step.CONSENT
