"""State machine of a participant's way through the study. Pure functions."""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """The pages of a study, in order."""

    CONSENT = "consent"
    SCREEN = "screen"
    REFUSED = "refused"
    BEFORE = "before"
    INSTRUCTIONS = "instructions"
    COMPREHENSION = "comprehension"
    PRACTICE = "practice"
    TRIAL = "trial"
    QUESTIONNAIRE = "questionnaire"
    THANKS = "thanks"


@dataclass(frozen=True)
class Progress:
    """The steps a participant has completed."""

    consented: bool = False
    # of a design without a check of the screen, or without a questionnaire, that step counts as done
    screened: bool = False
    refused: bool = False
    # why, if not because of the screen: screening questions, or comprehension or practice not passed
    refused_because: str = "screen"
    asked_before: bool = True
    instructed: bool = False
    comprehended: bool = True
    practiced: bool = False
    finished: bool = False
    questioned: bool = False


def next_step(progress: Progress) -> Step:
    """Return the page to show; a page is left only by finishing it, whatever was clicked or reloaded."""
    if not progress.consented:
        return Step.CONSENT
    if not progress.screened:
        return Step.SCREEN
    if progress.refused:
        return Step.REFUSED
    if not progress.asked_before:
        return Step.BEFORE
    if not progress.instructed:
        return Step.INSTRUCTIONS
    if not progress.comprehended:
        return Step.COMPREHENSION
    if not progress.practiced:
        return Step.PRACTICE
    if not progress.finished:
        return Step.TRIAL
    return Step.THANKS if progress.questioned else Step.QUESTIONNAIRE
