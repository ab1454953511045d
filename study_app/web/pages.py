"""Pages of the study: they render the service's state and pass clicks to it."""

import re
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path

import streamlit as st

from db.session import DatabaseError
from evalkit.errors import UserError
from study_app.plan.flow import Step, next_step
from study_app.service.record_judgment import Choice, Recorded, Timing
from study_app.service.study import StudyService
from study_app.service.view_models import TrialPage, Visitor
from study_app.web import current_study as running
from study_app.web.closed_pages import is_closed, show_closed
from study_app.web.comparison_page import show_trial
from study_app.web.even_pace import evenly
from study_app.web.markdown_text import block, inline
from study_app.web.page_context import TROUBLE, PageContext, paragraphs, safely
from study_app.web.side_pages import (
    redirect,
    show_comprehension,
    show_questionnaire,
    show_questions_before,
    show_refused,
    show_screen_check,
    tell_blocked_cookies,
)

STYLE = Path(__file__).parent / "static" / "study.css"
_PRACTICED = "practiced"
_PRACTICE_RIGHT = "practice-right"
_NOTICE = "notice"
_TURN = "turn"
_RESTED = "rested"
_DECLINED = "declined"


def show() -> None:
    """Show the page this visitor has come to."""
    service = running.current()
    # set by the answer that turned the page; never older than this script run
    turn = st.session_state.pop(_TURN, None)
    visitor, broken = None, False
    try:
        visitor = service.visitor(visitor_token(service), turn)
    except DatabaseError:
        broken = True
    language = _language(service, visitor)
    scene = PageContext(service, service.sentences_in(language), language, st.session_state.pop(_NOTICE, None), turn)
    st.set_page_config(page_title=scene.words.title, layout="wide", initial_sidebar_state="collapsed")
    st.html(f"<style>{_style()}</style>")
    if broken or st.session_state.pop(TROUBLE, False):
        st.error(scene.words.trouble.storage)
    try:
        if visitor is not None:
            _PAGES[next_step(visitor.progress)](scene, visitor)
        elif not broken:
            _welcome(scene)
    except DatabaseError:
        st.error(scene.words.trouble.storage)


def visitor_token(service: StudyService) -> str | None:
    """Return the token in the visitor's cookie."""
    token: str | None = st.context.cookies.get(service.blinding.cookie_name())
    return token


def _language(service: StudyService, visitor: Visitor | None) -> str:
    """Return the language the visitor came in, else the one of their link, else the design's."""
    wanted = visitor.language if visitor is not None else st.query_params.get("lang")
    return wanted if wanted in service.languages else service.design.language


def _welcome(scene: PageContext) -> None:
    if is_closed(scene):
        return
    words = scene.words.welcome
    if scene.service.design.entry.recruitment == "open":
        way_in = f'<a class="begin" href="/join?lang={scene.language}" target="_self">{escape(words.begin)}</a>'
    else:
        way_in = f"<p>{escape(words.recruited)}</p>"
    scene.prose(words.heading, f"{_logo(scene)}{block(words.body)}{_terms(scene)}{way_in}")
    tell_blocked_cookies(scene.words.trouble.cookies)


def _terms(scene: PageContext) -> str:
    """Return how long the study takes and what is paid, as far as the design states it."""
    words, entry = scene.words.consent, scene.service.design.entry
    lines = [
        *([] if entry.minutes is None else [words.duration.format(minutes=entry.minutes)]),
        *([] if entry.payment is None else [words.payment.format(payment=entry.payment)]),
    ]
    return paragraphs(tuple(lines))


def _logo(scene: PageContext) -> str:
    return "" if scene.service.logo is None else f'<p><img class="study-logo" alt="" src="{scene.service.logo}"></p>'


def _consent(scene: PageContext, visitor: Visitor) -> None:
    if is_closed(scene):
        return
    words = scene.words.consent
    if st.session_state.get(_DECLINED):
        scene.prose(words.declined_heading, block(words.declined_body) + scene.code("no_consent"))
        return
    recruited = () if scene.service.design.entry.recruitment == "open" else (words.recruited,)
    scene.prose(words.heading, _logo(scene) + paragraphs((*words.body, *recruited)) + _terms(scene))
    scene.onward(words.agree, "consent", lambda: scene.service.finish_step(visitor.id, "consented_at"))
    with st.container(key="decline"):
        st.button(words.decline, key="decline-consent", type="tertiary", on_click=_decline)


def _decline() -> None:
    # of this page alone: who reloads it may agree after all
    st.session_state[_DECLINED] = True


def _instructions(scene: PageContext, visitor: Visitor) -> None:
    words, design = scene.words.instructions, scene.service.design
    several = words.ranking if design.answer == "ranking" else words.best
    steps = [
        *map(inline, words.pair if design.at_once == 2 else several),
        f'<span class="with-mouse">{inline(words.zoom)}</span><span class="with-touch">{inline(words.touch)}</span>',
        *([inline(words.cannot_tell)] if design.cannot_tell else []),
    ]
    practice = scene.service.practice(visitor.id)
    ahead = f"<p>{escape(words.practice_ahead)}</p>" if practice else ""
    scene.prose(words.heading, f"<ol>{''.join(f'<li>{line}</li>' for line in steps)}</ol>{ahead}")

    def finish() -> None:
        scene.service.finish_step(visitor.id, "instructed_at")
        if not practice and not design.comprehension.questions:
            scene.service.finish_step(visitor.id, "practiced_at")

    scene.onward(words.next, "instructions", finish)


def _practice(scene: PageContext, visitor: Visitor) -> None:
    trials = scene.service.practice(visitor.id)
    if not trials:
        scene.service.finish_step(visitor.id, "practiced_at")
        st.rerun()
    number = min(st.session_state.get(_PRACTICED, 0), len(trials) - 1)
    trial, words = trials[number], scene.words.practice

    def answered(choice: Choice, _: Timing) -> None:
        # only ever on from this one, so that a double click can't pass over the next
        is_right = choice.split()[0] == trial.right_answer
        answers: dict[int, bool] = {**st.session_state.get(_PRACTICE_RIGHT, {}), number: is_right}
        st.session_state[_PRACTICE_RIGHT] = answers
        st.session_state[_PRACTICED] = number + 1
        st.session_state[_NOTICE] = words.right if is_right else words.wrong
        if number == len(trials) - 1:
            result = scene.service.finish_practice(visitor.id, sum(answers.values()))
            if result == "failed":
                st.session_state.pop(_PRACTICE_RIGHT)
                st.session_state[_PRACTICED], st.session_state[_NOTICE] = 0, scene.words.entry.practice_again

    show_trial(scene.service, scene.words, scene.language, trial, safely(answered), scene.notice)


def _trial(scene: PageContext, visitor: Visitor) -> None:
    service = scene.service
    turn = scene.turn or service.turn(visitor.id)
    if show_closed(scene, visitor, turn):
        return
    trial = turn.trial
    if trial is None:
        _questionnaire(scene, visitor)
        return
    if _break_is_due(service, trial):
        _break(scene, trial)
        return

    def answered(choice: Choice, timing: Timing) -> None:
        try:
            recorded, st.session_state[_TURN] = evenly(lambda: service.answer_and_turn(visitor.id, trial, choice, timing))
        except DatabaseError:
            raise
        except UserError:
            # of a page that is gone, such as one open when another tab undid what came before: the present one is shown
            st.session_state.pop(_TURN, None)
            return
        if recorded is Recorded.TOO_SOON:
            st.session_state[_NOTICE] = scene.words.trial.too_soon

    def undone(assignment_id: int) -> None:
        st.session_state.pop(_TURN, None)
        service.undo(visitor.id, assignment_id)

    show_trial(service, scene.words, scene.language, trial, safely(answered), scene.notice)
    if trial.undoable is not None:
        st.button(
            scene.words.trial.undo, key=f"undo-{trial.key}", type="tertiary", on_click=safely(undone), args=(trial.undoable,)
        )


def _break_is_due(service: StudyService, trial: TrialPage) -> bool:
    every = service.design.sessions.break_every
    # every so many comparisons, and never between two questions about the same images
    comparisons = trial.done // trial.question_count
    is_due = every is not None and comparisons > 0 and comparisons % every == 0
    return is_due and trial.question == "overall" and st.session_state.get(_RESTED) != trial.done


def _break(scene: PageContext, trial: TrialPage) -> None:
    words = scene.words.rest
    scene.prose(words.break_heading, f"<p>{escape(words.break_body.format(done=trial.done, total=trial.total))}</p>")

    def rested() -> None:
        st.session_state[_RESTED] = trial.done

    scene.onward(words.go_on, f"rested-{trial.done}", rested)


def _questionnaire(scene: PageContext, visitor: Visitor) -> None:
    # participants who arrived after all was judged have no questions to answer
    if visitor.progress.questioned or not scene.service.has_judged(visitor.id):
        _thanks(scene, visitor)
    else:
        show_questionnaire(scene, visitor)


def _thanks(scene: PageContext, visitor: Visitor) -> None:
    words = scene.words.thanks
    if not scene.service.has_judged(visitor.id):
        scene.prose(words.heading, block(words.none))
        return
    entry = scene.service.design.entry
    code = entry.completion_code or visitor.completion_code
    back = f'<p><a class="begin" href="/done" target="_self">{escape(words.back)}</a></p>' if entry.completion_url else ""
    seconds = entry.redirect_seconds
    after = "" if seconds is None else f"<p>{escape(words.redirect.format(seconds=seconds))}</p>"
    scene.prose(
        words.heading,
        f"{block(words.body)}<p>{escape(words.code)}:</p>"
        f'<div class="code">{escape(code)}</div>{back}{after}<p>{escape(words.close)}</p>',
    )
    if entry.redirect_seconds is not None:
        redirect(entry.redirect_seconds)


_PAGES: dict[Step, Callable[[PageContext, Visitor], None]] = {
    Step.CONSENT: _consent,
    Step.SCREEN: show_screen_check,
    Step.REFUSED: show_refused,
    Step.BEFORE: show_questions_before,
    Step.INSTRUCTIONS: _instructions,
    Step.COMPREHENSION: show_comprehension,
    Step.PRACTICE: _practice,
    Step.TRIAL: _trial,
    Step.QUESTIONNAIRE: _questionnaire,
    Step.THANKS: _thanks,
}


@cache
def _style() -> str:
    # sent on every page turn, so without what only those who write it read
    return " ".join(re.sub(r"/\*.*?\*/", "", STYLE.read_text(encoding="utf-8"), flags=re.DOTALL).split())
