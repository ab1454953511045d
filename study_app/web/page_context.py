"""Shared page context: service, translated text, layout helpers, database-error handling."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Literal

import streamlit as st

from db.session import DatabaseError
from study_app.plan.texts import Sentences
from study_app.service.study import StudyService
from study_app.service.view_models import Turn
from study_app.web.markdown_text import block

TROUBLE = "trouble"
_RENEW = "renew"


@dataclass(frozen=True)
class PageContext:
    """What every page needs: the study, and the sentences in the visitor's language."""

    service: StudyService
    words: Sentences
    language: str
    # a notice about the previous page
    notice: str | None
    # what comes next, if the answer to the previous page determined it
    turn: Turn | None = None

    def prose(self, heading: str, body: str) -> None:
        """Show a heading and HTML below it."""
        about = f'lang="{self.language}" dir="{self.words.direction}"'
        st.html(f'<div class="study-prose" {about}><h1>{escape(heading)}</h1>{body}</div>')

    def code(self, outcome: Literal["screened_out", "full", "partly", "no_consent"]) -> str:
        """Return the code of an outcome as HTML, nothing if the design has none."""
        code = self.service.design.entry.codes.get(outcome)
        return f'<p>{escape(self.words.thanks.code)}:</p><div class="code">{escape(code)}</div>' if code else ""

    def onward(self, label: str, key: str, finish: Callable[[], object]) -> None:
        """Show the button that leads on."""
        with st.container(key="onward"):
            st.button(label, key=f"onward-{key}", type="primary", on_click=safely(finish))


def paragraphs(lines: tuple[str, ...]) -> str:
    """Return lines of Markdown as HTML."""
    return "".join(block(line) for line in lines)


def renew_page(seconds: int) -> None:
    """Run the page again after so many seconds, as long as it shows this."""

    def renew() -> None:
        # the first run is part of the page's own
        if st.session_state.pop(_RENEW, False):
            st.rerun()
        st.session_state[_RENEW] = True

    fragment: Callable[[], object] = st.fragment(renew, run_every=seconds)
    fragment()


def safely(callback: Callable[..., object]) -> Callable[..., None]:
    """Return the callback so that a database that fails is told to the participant, on the same page."""

    def call(*arguments: object) -> None:
        try:
            callback(*arguments)
        except DatabaseError:
            st.session_state[TROUBLE] = True

    return call
