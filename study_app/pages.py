"""The pages of the study. They show what the service says and hand it what was clicked; they decide nothing."""

import math
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path

import streamlit as st

from db.moments import utc_now
from db.session import DatabaseError
from study_app import running
from study_app.flow import Step, next_step
from study_app.judge import Choice, Recorded, Timing
from study_app.participants import Mark
from study_app.sentences import Trial as TrialWords
from study_app.service import StudyService, Trial, Visitor, letter

STYLE = Path(__file__).parent / "static" / "study.css"
_TROUBLE = "trouble"
_PRACTICED = "practiced"
_SAID = "said"
_RESTED = "rested"


def show() -> None:
    """Show the page this visitor has come to."""
    service = running.current()
    st.set_page_config(page_title=service.sentences.title, layout="wide", initial_sidebar_state="collapsed")
    st.html(f"<style>{_style()}</style>")
    if st.session_state.pop(_TROUBLE, False):
        st.error(service.sentences.trouble.storage)
    said = st.session_state.pop(_SAID, None)
    if said is not None:
        st.info(said)
    try:
        visitor = service.visitor(visitor_token(service))
        if visitor is None:
            _welcome(service)
        else:
            _PAGES[next_step(visitor.progress)](service, visitor)
    except DatabaseError:
        st.error(service.sentences.trouble.storage)


def visitor_token(service: StudyService) -> str | None:
    """Return the token in the visitor's cookie."""
    token: str | None = st.context.cookies.get(service.blinding.cookie_name())
    return token


def _welcome(service: StudyService) -> None:
    words = service.sentences.welcome
    _prose(
        words.heading,
        f'<p>{escape(words.body)}</p><a class="begin" href="/join" target="_self">{escape(words.begin)}</a>',
    )


def _consent(service: StudyService, visitor: Visitor) -> None:
    words = service.sentences.consent
    _prose(words.heading, _paragraphs(words.body))
    _onward(service, words.agree, visitor, ("consented_at",))


def _instructions(service: StudyService, visitor: Visitor) -> None:
    words = service.sentences.instructions
    steps = list(words.body) + ([words.cannot_tell] if service.design.cannot_tell else [])
    practice = service.practice(visitor.id)
    ahead = f"<p>{escape(words.practice_ahead)}</p>" if practice else ""
    _prose(words.heading, f"<ol>{''.join(f'<li>{escape(line)}</li>' for line in steps)}</ol>{ahead}")
    _onward(service, words.next, visitor, ("instructed_at",) if practice else ("instructed_at", "practiced_at"))


def _practice(service: StudyService, visitor: Visitor) -> None:
    trials = service.practice(visitor.id)
    number = min(st.session_state.get(_PRACTICED, 0), len(trials) - 1)
    last = number == len(trials) - 1

    trial, words = trials[number], service.sentences.practice

    def answered(choice: Choice, _: Timing) -> None:
        # only ever on from this one, so that a double click can't pass over the next
        st.session_state[_PRACTICED] = number + 1
        st.session_state[_SAID] = words.right if choice == trial.right_answer else words.wrong
        if last:
            service.finish_step(visitor.id, "practiced_at")

    _trial_page(service, trial, answered)


def _trial(service: StudyService, visitor: Visitor) -> None:
    until = service.resting_until(visitor.id)
    if until is not None:
        words = service.sentences.rest
        hours = max(1, math.ceil((until - utc_now()).total_seconds() / 3600))
        _prose(words.session_heading, f"<p>{escape(words.session_body.format(hours=hours))}</p>")
        return
    trial = service.trial(visitor.id)
    if trial is None:
        _thanks(service, visitor)
        return
    if _break_is_due(service, trial):
        _break(service, trial)
        return

    def answered(choice: Choice, timing: Timing) -> None:
        if service.answer(visitor.id, trial, choice, timing) is Recorded.TOO_SOON:
            st.session_state[_SAID] = service.sentences.trial.too_soon

    _trial_page(service, trial, answered)


def _break_is_due(service: StudyService, trial: Trial) -> bool:
    every = service.design.sessions.break_every
    return every is not None and trial.done > 0 and trial.done % every == 0 and st.session_state.get(_RESTED) != trial.done


def _break(service: StudyService, trial: Trial) -> None:
    words = service.sentences.rest
    _prose(words.break_heading, f"<p>{escape(words.break_body.format(done=trial.done, total=trial.total))}</p>")

    def rested() -> None:
        st.session_state[_RESTED] = trial.done

    with st.container(key="onward"):
        st.button(words.go_on, key=f"rested-{trial.done}", type="primary", on_click=rested)


def _thanks(service: StudyService, visitor: Visitor) -> None:
    words = service.sentences.thanks
    if not service.has_judged(visitor.id):
        _prose(words.heading, f"<p>{escape(words.none)}</p>")
        return
    _prose(
        words.heading,
        f"<p>{escape(words.body)}</p><p>{escape(words.code)}:</p>"
        f'<div class="code">{escape(visitor.completion_code)}</div><p>{escape(words.close)}</p>',
    )


_PAGES: dict[Step, Callable[[StudyService, Visitor], None]] = {
    Step.CONSENT: _consent,
    Step.INSTRUCTIONS: _instructions,
    Step.PRACTICE: _practice,
    Step.TRIAL: _trial,
    Step.THANKS: _thanks,
}


def _trial_page(service: StudyService, trial: Trial, answered: Callable[[Choice, Timing], None]) -> None:
    """Show references, question, two images and the answers.

    The buttons' keys name the assignment, and what they call holds it: a second click on a page that is already gone answers
    the old assignment again, which changes nothing, and never the next one unseen.
    """
    words = service.sentences.trial
    badge = f'<div style="text-align:center"><span class="study-badge">{escape(service.sentences.practice.badge)}</span></div>'
    st.html((badge if trial.kind == "practice" else _progress(service, trial)) + _concepts(service, trial))
    st.html(f'<h1 class="study-question">{escape(_question(words, trial))}</h1>' + _pair(service, trial))
    choices: list[tuple[Choice, str, str]] = [("left", words.left, "1"), ("right", words.right, "2")]
    if service.design.cannot_tell:
        choices.insert(1, ("cannot_tell", words.cannot_tell, "3"))
    with st.container(key="answers", horizontal=True):
        for choice, label, shortcut in choices:
            st.button(
                label,
                key=f"{choice}-{trial.key}",
                shortcut=shortcut,
                width="stretch",
                on_click=_safely(answered),
                args=(choice, Timing()),
            )


def _question(words: TrialWords, trial: Trial) -> str:
    if trial.question == "quality":
        return words.question_quality
    if trial.question.startswith("concept "):
        return words.question_concept.format(letter=letter(int(trial.question.removeprefix("concept "))))
    return words.question(len(trial.concepts))


def _progress(service: StudyService, trial: Trial) -> str:
    text = service.sentences.trial.progress.format(done=trial.done, total=trial.total)
    percent = 100 * trial.done / max(trial.total, 1)
    return (
        f'<div class="study-progress"><div class="bar" role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" '
        f'aria-valuemax="{trial.total}" aria-valuenow="{trial.done}"><div style="width:{percent:.1f}%"></div></div>'
        f"<span>{escape(text)}</span></div>"
    )


def _concepts(service: StudyService, trial: Trial) -> str:
    words = service.sentences.trial
    cards = []
    for concept in trial.concepts:
        count = len(concept.references)
        pictures = "".join(
            f'<img src="{url}" alt="{escape(words.reference.format(letter=concept.letter, number=number, count=count))}">'
            for number, url in enumerate(concept.references, 1)
        )
        name = f"{escape(words.concept.format(letter=concept.letter))} <span>{escape(concept.word)}</span>"
        cards.append(f'<div class="study-concept"><div class="name">{name}</div><div class="row">{pictures}</div></div>')
    return f'<div class="study-concepts">{"".join(cards)}</div>'


def _pair(service: StudyService, trial: Trial) -> str:
    words = service.sentences.trial
    width, height = trial.size
    figures = "".join(
        f'<label title="{escape(words.enlarge)}"><input type="checkbox"><img src="{url}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}"></label>'
        for url, alt in ((trial.left, words.left_image), (trial.right, words.right_image))
    )
    # how wide two images become follows from how tall the screen lets them be; the answers stand below, as wide as both
    return f'<style>:root {{ --ratio: {width / height:.4f}; }}</style><div class="study-pair">{figures}</div>'


def _onward(service: StudyService, label: str, visitor: Visitor, steps: tuple[Mark, ...]) -> None:
    def finish() -> None:
        for step in steps:
            service.finish_step(visitor.id, step)

    with st.container(key="onward"):
        st.button(label, key=f"onward-{steps[0]}", type="primary", on_click=_safely(finish))


def _safely(callback: Callable[..., None]) -> Callable[..., None]:
    """Return the callback so that a database that fails is told to the participant, on the same page."""

    def call(*arguments: object) -> None:
        try:
            callback(*arguments)
        except DatabaseError:
            st.session_state[_TROUBLE] = True

    return call


def _prose(heading: str, body: str) -> None:
    st.html(f'<div class="study-prose"><h1>{escape(heading)}</h1>{body}</div>')


def _paragraphs(lines: tuple[str, ...]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


@cache
def _style() -> str:
    return STYLE.read_text(encoding="utf-8")
