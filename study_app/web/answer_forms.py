"""Answers that are not buttons: a value for every image, a slider between two images, free text."""

from collections.abc import Sequence
from html import escape

import streamlit as st

from analysis.questions.comment import MOST_CHARACTERS
from analysis.questions.graded import code_of
from analysis.questions.slider import SLIDER_STEPS
from study_app.plan.questionnaire import Translation
from study_app.plan.study_questions import MOST_BUTTONS, StudyQuestion
from study_app.plan.texts import ComparisonText
from study_app.service.view_models import TrialPage
from study_app.web.markdown_text import literal


def show_form(words: ComparisonText, asked: StudyQuestion, shown: Translation, trial: TrialPage, names: Sequence[str]) -> None:
    """Show the fields of a question; `names` are those of the images, in page order."""
    widget = asked.answer_kind.widget
    if widget == "per_image":
        with st.container(key="ratings"):
            for column, place, name in zip(st.columns(len(trial.places)), trial.places, names, strict=True):
                with column:
                    _field(words, asked, shown, f"{name}", _key(trial, place))
    elif widget == "slider":
        left, right = shown.options or words.slider_ends
        st.html(f'<div class="study-ends"><span>{escape(left)}</span><span>{escape(right)}</span></div>')
        st.slider(
            literal(words.slider), -SLIDER_STEPS, SLIDER_STEPS, 0, key=_key(trial, "slider"), label_visibility="collapsed",
            format=" ",
        )  # fmt: skip
    else:
        st.text_area(literal(shown.text), key=_key(trial, "text"), max_chars=MOST_CHARACTERS, label_visibility="collapsed")


def read_form(asked: StudyQuestion, trial: TrialPage) -> str | None:
    """Return the answer that the fields hold now, None unless it is whole."""
    state, widget = st.session_state, asked.answer_kind.widget
    if widget == "per_image":
        values = [state.get(_key(trial, place)) for place in trial.places]
        if any(value is None for value in values):
            return None
        answer = " ".join(f"{place}:{_text(asked, value)}" for place, value in zip(trial.places, values, strict=True))
    elif widget == "slider":
        answer = code_of(int(state.get(_key(trial, "slider"), 0)))
    else:
        answer = str(state.get(_key(trial, "text")) or "")
    return None if asked.answer_kind.problem(answer, trial.places, asked.scale) else answer


def _field(words: ComparisonText, asked: StudyQuestion, shown: Translation, name: str, key: str) -> None:
    if asked.kind == "yes_no":
        labels = shown.options or (words.yes, words.no)
        options = {"yes": labels[0], "no": labels[1]}
        st.radio(
            literal(name),
            list(options),
            format_func=lambda value: literal(options[value]),
            index=None,
            key=key,
            horizontal=True,
        )
        return
    scale = asked.scale
    values = [scale.least + number * scale.step for number in range(scale.values)]
    ends = dict(zip((values[0], values[-1]), shown.options, strict=True)) if shown.options else {}

    def label(value: float) -> str:
        return f"{value:g} – {ends[value]}" if value in ends else f"{value:g}"

    if len(values) <= MOST_BUTTONS:
        st.radio(literal(name), values, format_func=lambda value: literal(label(value)), index=None, key=key, horizontal=True)
    else:
        # a slider has a value from the start, so the field is one to type into where none may be suggested
        step = (
            int(scale.step) if all(float(bound).is_integer() for bound in (scale.least, scale.most, scale.step)) else scale.step
        )
        kind = type(step)
        st.number_input(
            literal(f"{name} ({label(values[0])} … {label(values[-1])})"), min_value=kind(scale.least),
            max_value=kind(scale.most), step=step, value=None, key=key,
        )  # fmt: skip


def _text(asked: StudyQuestion, value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _key(trial: TrialPage, field: str) -> str:
    return f"field-{field}-{trial.key}"
