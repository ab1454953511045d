"""The page of one comparison: references, question, two images, answers; a script measures times and zooms where it can run."""

from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, cast, get_args

import streamlit as st

from study_app.judge import Choice, Timing
from study_app.sentences import Sentences
from study_app.sentences import Trial as Words
from study_app.service import StudyService, Trial, letter

SCRIPT = Path(__file__).parent / "static" / "trial.js"
Answered = Callable[[Choice, Timing], None]


def show_trial(service: StudyService, sentences: Sentences, language: str, trial: Trial, answered: Answered) -> None:
    """Show a comparison, and call `answered` with what was chosen.

    The keys name the assignment, and what they call holds it: a second click on a page that is already gone answers the old
    assignment again, which changes nothing, and never the next one unseen. The script takes clicks and keys before the buttons
    do and sends the answer with its times; without the script the buttons answer.
    """
    words = sentences.trial
    badge = f'<div class="study-center"><span class="study-badge">{escape(sentences.practice.badge)}</span></div>'
    top = badge if trial.kind == "practice" else _progress(words, trial)
    st.html(f'<div lang="{language}">{top}{_concepts(words, trial)}</div>')
    st.html(
        f'<h1 class="study-question" tabindex="-1" lang="{language}">{escape(_question(words, trial))}</h1>'
        + _pair(words, trial, language)
    )
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
                on_click=answered,
                args=(choice, Timing()),
            )
    key = f"script-{trial.key}"

    def told() -> None:
        found = read_answer(st.session_state[key].get("answer"))
        if found is not None:
            answered(*found)

    with st.container(key="script"):
        _script()(
            key=key,
            data={
                "key": trial.key,
                "language": language,
                "choices": [choice for choice, _, _ in choices],
                "minimum_ms": 0 if trial.kind == "practice" else round(1000 * service.design.minimum_seconds),
                "upcoming": list(trial.upcoming),
            },
            on_answer_change=told,
        )


def read_answer(told: object) -> tuple[Choice, Timing] | None:
    """Return what the script sent, held to what it may send; None for anything else."""
    choice = told.get("choice") if isinstance(told, Mapping) else None
    if not isinstance(told, Mapping) or not isinstance(choice, str) or choice not in get_args(Choice):
        return None
    return cast("Choice", choice), Timing.told(told)


@cache
def _script() -> Any:  # noqa: ANN401 -- Streamlit's renderer of a component
    return st.components.v2.component("study_trial", js=SCRIPT.read_text(encoding="utf-8"))


def _question(words: Words, trial: Trial) -> str:
    if trial.question == "quality":
        return words.question_quality
    if trial.question.startswith("concept "):
        return words.question_concept.format(letter=letter(int(trial.question.removeprefix("concept "))))
    return words.question(len(trial.concepts))


def _progress(words: Words, trial: Trial) -> str:
    text = words.progress.format(done=trial.done, total=trial.total)
    percent = 100 * trial.done / max(trial.total, 1)
    return (
        f'<div class="study-progress"><div class="bar" role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" '
        f'aria-valuemax="{trial.total}" aria-valuenow="{trial.done}"><div style="width:{percent:.1f}%"></div></div>'
        f"<span>{escape(text)}</span></div>"
    )


def _concepts(words: Words, trial: Trial) -> str:
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


def _pair(words: Words, trial: Trial, language: str) -> str:
    width, height = trial.size
    figures = "".join(
        f'<div class="view"><img src="{url}" alt="{escape(alt)}" width="{width}" height="{height}" draggable="false"></div>'
        for url, alt in ((trial.left, words.left_image), (trial.right, words.right_image))
    )
    # how wide two images become follows from how tall the screen lets them be; the answers stand below, as wide as both
    return (
        f"<style>:root {{ --ratio: {width / height:.4f}; }}</style>"
        f'<div class="study-pair" data-page="{trial.key}" lang="{language}" role="group" aria-label="{escape(words.images)}">'
        f"{figures}</div>"
    )
