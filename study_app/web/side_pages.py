"""Optional pages of a design: screen check and questionnaire."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from study_app.plan.color_plates import draw_plate
from study_app.plan.questionnaire import MOST_SIGNS, Question
from study_app.plan.screen_check import ScreenSize
from study_app.service.study import StudyService
from study_app.service.view_models import Visitor
from study_app.web.markdown_text import literal
from study_app.web.page_context import PageContext, paragraphs

SCRIPT = Path(__file__).parent / "static" / "screen.js"
COOKIES = Path(__file__).parent / "static" / "cookies.js"
REDIRECT = Path(__file__).parent / "static" / "redirect.js"
_FAILED = "screen-failed"
_RESTORED = "draft-restored"


def show_screen_check(scene: PageContext, visitor: Visitor) -> None:
    """Show the check of the screen: what is needed, and plates to read where the design wants colours told."""
    service, words = scene.service, scene.words.screen
    rule = service.design.screen
    if rule is None:
        raise RuntimeError("the design checks no screen")
    plates = service.plates(visitor.id) if rule.colour else ()
    failed = st.session_state.get(_FAILED)
    problem = {"size": words.too_small, "colour": words.not_read}.get(failed or "", "")
    message = problem.format(width=rule.least_width or 1, height=rule.least_height or 1)
    scene.prose(words.heading, paragraphs((words.body, *((words.plates,) if plates else ()))))
    with st.container(key="plates"):
        for number, seed in enumerate(plates, 1):
            picture = base64.b64encode(draw_plate(seed)).decode()
            st.html(f'<img class="study-plate" alt="{escape(words.plate)}" src="data:image/png;base64,{picture}">')
            st.text_input(words.number.format(number=number), key=f"plate-{seed}", max_chars=3, autocomplete="off")

    def check() -> None:
        page = ScreenSize.told(st.session_state["screen"].get("page") if "screen" in st.session_state else None)
        read = [str(st.session_state.get(f"plate-{seed}", "")) for seed in plates]
        st.session_state[_FAILED] = service.check_screen(visitor.id, page, read)

    _alert(message)
    scene.onward(words.check, f"screen-{'-'.join(plates)}", check)
    with st.container(key="script"):
        _script()(key="screen", on_page_change=lambda: None)


def show_refused(scene: PageContext, visitor: Visitor) -> None:
    """Tell a participant who cannot take part, because of the screen, screening questions, or tries that failed."""
    words, reason = scene.words.entry, visitor.progress.refused_because
    heading, body = {
        "screen": (scene.words.screen.refused_heading, scene.words.screen.refused_body),
        "before": (words.out_heading, words.out_answers),
    }.get(reason, (words.out_heading, words.out_tries))
    scene.prose(heading, paragraphs((body,)) + scene.code("screened_out"))


def show_questions_before(scene: PageContext, visitor: Visitor) -> None:
    """Show the questions before the study on one page."""
    words = scene.words.entry
    _ask_all(
        scene, visitor.id, scene.service.design.before, (words.before_heading, words.before_body, words.send), "before",
        scene.words.questionnaire.wrong, lambda given: scene.service.reply_before(visitor.id, given),
    )  # fmt: skip


def show_comprehension(scene: PageContext, visitor: Visitor) -> None:
    """Show the questions about the instructions; which of them was wrong is not shown, or tries would be guesses."""
    words = scene.words.entry
    questions = tuple(question.as_question() for question in scene.service.design.comprehension.questions)
    _ask_all(
        scene, visitor.id, questions, (words.comprehension_heading, words.comprehension_body, words.send), "comprehension",
        words.wrong, lambda given: scene.service.comprehend(visitor.id, given), mark_wrong=False,
    )  # fmt: skip


def show_questionnaire(scene: PageContext, visitor: Visitor) -> None:
    """Show all questions of the questionnaire on one page."""
    words = scene.words.questionnaire
    _ask_all(
        scene, visitor.id, scene.service.design.after, (words.heading, words.body, words.send), "questionnaire", words.wrong,
        lambda given: scene.service.reply(visitor.id, given),
    )  # fmt: skip


def _ask_all(
    scene: PageContext,
    visitor_id: int,
    questions: Sequence[Question],
    sentences: tuple[str, str, str],
    key: str,
    problem: str,
    store: Callable[[Mapping[str, str]], list[str]],
    mark_wrong: bool = True,
) -> None:
    """Show questions on one page; `sentences` are heading, body and button, and `store` returns what was not answered well."""
    heading, body, button = sentences
    fields = [f"reply-{question.name}" for question in questions]
    _restore_draft(scene.service, visitor_id, fields)
    state = f"{key}-wrong"
    wrong = st.session_state.get(state, ())
    scene.prose(heading, paragraphs((body,)))
    with st.container(key="questions"):
        for question in questions:
            _ask(scene, question, mark_wrong and question.name in wrong)

    # after the fields, so that it holds what they show
    scene.service.drafts.keep(visitor_id, {field: st.session_state.get(field) for field in fields})

    def send() -> None:
        st.session_state[state] = tuple(store({question.name: _given(question) for question in questions}))

    _alert(problem if wrong else "")
    scene.onward(button, key, send)


def _restore_draft(service: StudyService, visitor_id: int, fields: Sequence[str]) -> None:
    """Fill the fields of a new session with what was filled in before the page was reloaded."""
    if _RESTORED not in st.session_state:
        st.session_state[_RESTORED] = True
        draft = service.drafts.of(visitor_id)
        for field in fields:
            if draft.get(field) is not None and field not in st.session_state:
                st.session_state[field] = draft[field]


def _alert(message: str) -> None:
    """Show an alert next to the button that was pressed, where it is visible on a phone too."""
    if message:
        st.html(f'<p class="study-problem" role="alert">{escape(message)}</p>')


def _ask(scene: PageContext, question: Question, wrong: bool) -> None:
    shown, words, key = question.in_language(scene.language), scene.words.questionnaire, f"reply-{question.name}"
    label = shown.text if question.required else f"{shown.text} ({words.optional})"
    if wrong:
        st.html(f'<p class="study-problem">{escape(words.this_one)}</p>')
    # a widget's label is rendered as Markdown but read aloud as text: so it is only read aloud
    st.html(f'<p class="study-asked" aria-hidden="true">{escape(label)}</p>')
    if question.kind == "choice":
        options = [literal(option) for option in shown.options]
        st.radio(label, range(len(options)), format_func=options.__getitem__, index=None, key=key, label_visibility="collapsed")
    elif question.kind == "number":
        least, most = question.least, question.most
        st.number_input(label, min_value=least, max_value=most, value=None, key=key, label_visibility="collapsed")
    else:
        st.text_area(label, key=key, max_chars=MOST_SIGNS, label_visibility="collapsed")


def _given(question: Question) -> str:
    value = st.session_state.get(f"reply-{question.name}")
    if value is None:
        return ""
    if question.kind == "choice":
        return question.options[int(value)]
    return f"{value:g}" if question.kind == "number" else str(value)


def tell_blocked_cookies(sentence: str) -> None:
    """Show a sentence if the browser takes no cookies."""
    with st.container(key="script"):
        _cookie_script()(key="cookies", data=[{"sentence": sentence}])


@cache
def _cookie_script() -> Any:  # noqa: ANN401 -- Streamlit's renderer of a component
    return st.components.v2.component("study_cookies", js=COOKIES.read_text(encoding="utf-8"))


def redirect(seconds: int) -> None:
    """Lead to the recruiter after so many seconds."""
    with st.container(key="script"):
        _redirect_script()(key="redirect", data=[{"seconds": seconds}])


@cache
def _redirect_script() -> Any:  # noqa: ANN401 -- Streamlit's renderer of a component
    return st.components.v2.component("study_redirect", js=REDIRECT.read_text(encoding="utf-8"))


@cache
def _script() -> Any:  # noqa: ANN401 -- Streamlit's renderer of a component
    return st.components.v2.component("study_screen", js=SCRIPT.read_text(encoding="utf-8"))
