"""Page of one comparison: references, question, images, answers; a script measures times and zooms."""

from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.questions.question_kind import BOTH_BAD
from study_app.plan.page_layout import CANNOT_TELL, is_answer, press
from study_app.plan.questionnaire import Translation
from study_app.plan.study_questions import StudyQuestion
from study_app.plan.texts import ALSO_ASK, ComparisonText, Sentences
from study_app.service.record_judgment import Choice, Timing
from study_app.service.study import StudyService
from study_app.service.view_models import TrialPage, letter
from study_app.web.answer_forms import read_form, show_form

# a further question takes no answer sooner than this
UNREAD_MS = 700
FORMS = ("per_image", "slider", "text")
SCRIPT = Path(__file__).parent / "static" / "trial.js"
Answered = Callable[[Choice, Timing], None]


def show_trial(
    service: StudyService, sentences: Sentences, language: str, trial: TrialPage, answered: Answered, notice: str | None = None
) -> None:
    """Show a comparison, and call `answered` with what was chosen; `notice` is about the previous page and moves nothing.

    The keys name the assignment, and what they call holds it: a second click on a page that is already gone answers the old
    assignment again, which changes nothing, and never the next one unseen. The script takes clicks and keys before the buttons
    do and sends the answer with its times; without the script the buttons answer. A ranking is pressed place by place and then
    confirmed; what is pressed so far is kept in the session alone.
    """
    words = sentences.trial
    badge = f'<div class="study-center"><span class="study-badge">{escape(sentences.practice.badge)}</span></div>'
    top = badge if trial.kind == "practice" else _progress(words, trial)
    note = f'<div class="study-said" role="status"><span>{escape(notice)}</span></div>' if notice else ""
    tongue = f'lang="{language}" dir="{sentences.direction}"'
    asked = service.design.question(trial.question)
    shown = None if asked is None else asked.in_language(language)
    # every element is a separate message and costs the server as much as its text: so as few as possible
    st.html(
        f'<div class="study-top" {tongue}>{top}{note}{_concepts(words, trial)}</div>'
        f"{_numbered(words, trial, tongue)}"
        f'<h1 class="study-question" tabindex="-1" {tongue}>{escape(_question(sentences, trial, shown))}</h1>'
        + _images(words, trial, language)
    )
    if trial.ranking:
        st.html(_order(words, st.session_state.get(f"pressed-{trial.key}", ""), language))
    choices = _choices(service, words, trial, language)
    fields = None
    if asked is not None and shown is not None and asked.answer_kind.widget in FORMS:
        fields = asked
        _show_fields(words, asked, shown, trial, answered, tongue)
    else:
        _show_buttons(words, trial, choices, answered)
    key = f"script-{trial.key}"
    _script()(
        key=key,
        # in a list: Streamlit would import pandas to inspect a dict
        data=[
            {
                "key": trial.key,
                "language": language,
                "choices": {} if fields else {shortcut: choice for choice, _, shortcut in choices},
                "form": fields is not None,
                "ranks": list(words.ranks) if trial.ranking else None,
                "pressed": st.session_state.get(f"pressed-{trial.key}", ""),
                "minimum_ms": _minimum_ms(service, trial),
                "upcoming": list(trial.upcoming),
                "lost": sentences.trouble.picture,
                "unseen": words.unseen,
            }
        ],
        on_answer_change=lambda: _handle_answer(st.session_state[key].get("answer"), trial, choices, fields, answered),
    )


def _show_buttons(words: ComparisonText, trial: TrialPage, choices: list[tuple[Choice, str, str]], answered: Answered) -> None:
    """Show the answers as buttons; those of a ranking are pressed place by place and then confirmed."""
    pressed = f"pressed-{trial.key}"

    def chosen(choice: Choice) -> None:
        if trial.ranking and choice != CANNOT_TELL:
            st.session_state[pressed] = press(st.session_state.get(pressed, ""), choice, len(trial.places))
        else:
            answered(choice, Timing())

    with st.container(key="answers", horizontal=True):
        for choice, label, shortcut in choices:
            # the keys of a ranking are the script's alone: with two who count, a quick press would count out of turn
            native = None if trial.ranking else shortcut
            st.button(label, key=f"{choice}-{trial.key}", shortcut=native, width="stretch", on_click=chosen, args=(choice,))
    if trial.ranking:
        order = st.session_state.get(pressed, "")
        whole = is_answer(order, len(trial.places), "ranking")
        with st.container(key="confirm"):
            st.button(
                words.confirm,
                key=f"confirm-{trial.key}",
                type="primary",
                disabled=not whole,
                on_click=answered,
                args=(order, Timing()),
            )


def _show_fields(
    words: ComparisonText, asked: StudyQuestion, shown: Translation, trial: TrialPage, answered: Answered, tongue: str
) -> None:
    """Show the fields of a question and the button that sends them."""
    show_form(words, asked, shown, trial, [_alt(words, slot) for slot in trial.places])
    if st.session_state.get(f"missing-{trial.key}"):
        st.html(f'<p class="study-problem" role="alert" {tongue}>{escape(words.missing)}</p>')
    with st.container(key="confirm"):
        st.button(
            words.send,
            key=f"confirm-{trial.key}",
            type="primary",
            on_click=_send_fields,
            args=(asked, trial, Timing(), answered),
        )


def _send_fields(asked: StudyQuestion, trial: TrialPage, timing: Timing, answered: Answered) -> None:
    """Answer with what the fields hold, if that is whole."""
    answer = read_form(asked, trial)
    st.session_state[f"missing-{trial.key}"] = answer is None
    if answer is not None:
        answered(answer, timing)


def _handle_answer(
    message: object,
    trial: TrialPage,
    choices: list[tuple[Choice, str, str]],
    fields: StudyQuestion | None,
    answered: Answered,
) -> None:
    """Pass on what the script sent."""
    parsed = read_answer(message, tuple(choice for choice, _, _ in choices))
    if parsed is None:
        return
    choice, timing = parsed
    confirmed = isinstance(message, Mapping) and message.get("confirmed") is True
    if fields is not None:
        if confirmed:
            _send_fields(fields, trial, timing, answered)
    elif not trial.ranking or choice == CANNOT_TELL:
        if len(choice.split()) == 1:
            answered(choice, timing)
    elif is_answer(choice, len(trial.places), "ranking") and confirmed:
        answered(choice, timing)
    else:
        st.session_state[f"pressed-{trial.key}"] = choice


def read_answer(sent: object, places: tuple[str, ...]) -> tuple[Choice, Timing] | None:
    """Return what the script sent about a page with these places, held to what it may send; None for anything else.

    Of a ranking it may send a part, of fields only that they are sent.
    """
    choice = sent.get("choice") if isinstance(sent, Mapping) else None
    if not isinstance(sent, Mapping) or not isinstance(choice, str):
        return None
    named = choice.split()
    if named != [CANNOT_TELL] and (not set(named) <= set(places) or len(set(named)) < len(named)):
        return None
    return " ".join(named), Timing.told(sent)


def _minimum_ms(service: StudyService, trial: TrialPage) -> int:
    """Return how long a page takes no answer: a key held or pressed twice must not answer the next question unread."""
    if trial.kind == "practice":
        return 0
    return max(round(1000 * service.design.minimum_seconds), UNREAD_MS if trial.question_number > 1 else 0)


def _choices(service: StudyService, words: ComparisonText, trial: TrialPage, language: str) -> list[tuple[Choice, str, str]]:
    """Return the answers of a page in the order of its buttons: choice, label, key."""
    asked = service.design.question(trial.question)
    if asked is None:
        codes = (*trial.places, *((CANNOT_TELL,) if service.design.cannot_tell else ()))
    else:
        codes = asked.answer_kind.buttons(trial.places, asked.scale)
    labels = {"left": words.left, "right": words.right, CANNOT_TELL: words.cannot_tell, BOTH_BAD: words.both_bad}
    if asked is not None and asked.kind == "graded":
        shown = asked.in_language(language)
        margin = (7 - asked.steps) // 2
        labels = dict(zip(codes, shown.options or words.grades[margin : 7 - margin], strict=True))
    return [(code, labels.get(code) or words.image.format(number=code), str(number)) for number, code in enumerate(codes, 1)]


@cache
def _script() -> Any:  # noqa: ANN401 -- Streamlit's renderer of a component
    return st.components.v2.component("study_trial", js=SCRIPT.read_text(encoding="utf-8"))


def _numbered(words: ComparisonText, trial: TrialPage, tongue: str) -> str:
    """Return the line that tells apart several questions about the same images."""
    if trial.question_count == 1:
        return ""
    text = words.question_number.format(number=trial.question_number, count=trial.question_count)
    return f'<p class="study-number" {tongue}><span class="n{trial.question_number % 2}">{escape(text)}</span></p>'


def _question(sentences: Sentences, trial: TrialPage, shown: Translation | None) -> str:
    if shown is not None:
        number = trial.question.rpartition(" ")[2]
        if not number.isdecimal():
            return shown.text
        concept = trial.concepts[int(number)]
        name = sentences.trial.concept.format(letter=concept.letter)
        return shown.text.replace("{concept}", f"{name} ({concept.word})")
    asked = sentences.questions.ranking if trial.ranking else sentences.questions.pair
    if not trial.ranking and len(trial.places) > 2:
        asked = sentences.questions.best
    if trial.question in ALSO_ASK:
        return asked.further(trial.question)
    if trial.question.startswith("concept "):
        return asked.concept.format(letter=letter(int(trial.question.removeprefix("concept "))))
    return asked.of(len(trial.concepts))


def _progress(words: ComparisonText, trial: TrialPage) -> str:
    text = words.progress.format(done=trial.done, total=trial.total)
    if trial.minutes_left is not None:
        text += f" · {words.minutes_left.format(minutes=trial.minutes_left)}"
    percent = 100 * trial.done / max(trial.total, 1)
    return (
        f'<div class="study-progress"><div class="bar" role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" '
        f'aria-valuemax="{trial.total}" aria-valuenow="{trial.done}"><div style="width:{percent:.1f}%"></div></div>'
        f"<span>{escape(text)}</span></div>"
    )


def _concepts(words: ComparisonText, trial: TrialPage) -> str:
    cards = []
    for concept in trial.concepts:
        count = len(concept.references)
        pictures = "".join(
            f'<img src="{url}" alt="{escape(words.reference.format(letter=concept.letter, number=number, count=count))}">'
            for number, url in enumerate(concept.references, 1)
        )
        # without a photo the word itself is what people compare with
        pictures = pictures or f'<div class="word">{escape(concept.word)}</div>'
        name = f"{escape(words.concept.format(letter=concept.letter))} <span>{escape(concept.word) if count else ''}</span>"
        cards.append(f'<div class="study-concept"><div class="name">{name}</div><div class="row">{pictures}</div></div>')
    return f'<div class="study-concepts">{"".join(cards)}</div>'


def _images(words: ComparisonText, trial: TrialPage, language: str) -> str:
    width, height = trial.size
    count = len(trial.places)
    columns = count if count <= 4 else (count + 1) // 2
    figures = "".join(
        f'<div class="place" data-place="{slot}">{f"<b>{slot}</b>" if count > 2 else ""}<div class="view">'
        f'<img src="{url}" alt="{escape(_alt(words, slot))}" width="{width}" height="{height}" draggable="false"></div></div>'
        for slot, url in zip(trial.places, trial.images, strict=True)
    )
    # the images' width follows from the height that the screen allows; the answers are below, as wide as all
    return (
        f"<style>:root {{ --ratio: {width / height:.4f}; --columns: {columns}; --rows: {-(-count // columns)}; "
        f"--upper: {_css_text(words.upper)}; --lower: {_css_text(words.lower)}; "
        f"--beside: {14.6 if count == 2 else 20.4 if trial.ranking else 16.1}rem; }}</style>"
        f'<div class="study-pair{" many" if count > 2 else ""}" data-page="{trial.key}" lang="{language}" role="group" '
        f'aria-label="{escape(words.images)}">{figures}</div>'
    )


def _css_text(text: str) -> str:
    """Return a text as a string of CSS, in which nothing ends the string or the style."""
    return '"' + "".join(sign if sign.isalnum() or sign == " " else f"\\{ord(sign):x} " for sign in text) + '"'


def _alt(words: ComparisonText, slot: str) -> str:
    return {"left": words.left_image, "right": words.right_image}.get(slot) or words.image.format(number=slot)


def _order(words: ComparisonText, pressed: str, language: str) -> str:
    """Return what is ranked so far, told to screen readers whenever it changes."""
    named = [f"{words.image.format(number=slot)}: {rank}" for slot, rank in zip(pressed.split(), words.ranks, strict=False)]
    return f'<p class="study-order" lang="{language}" role="status">{escape(" · ".join(named) or words.order_empty)}</p>'
