"""A page of Streamlit with as many elements as a trial's and nothing behind them: the floor under every page turn."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from study_app.web.server import CONFIG
from tests.served import Server

_TURN = "turn"


class Floor(Server):
    """That page, served in a process of its own with the settings of a study."""

    code = "import sys; from benchmarks.study_floor import serve; serve(sys.argv[1], int(sys.argv[3]))"
    words = ()


def serve(folder: str, port: int) -> None:
    """Serve the page until the process is told to stop; its script is written into `folder`."""
    entry = Path(folder) / "floor.py"
    entry.write_text("from benchmarks.study_floor import show\n\nshow()\n", encoding="utf-8")
    settings = {"server.address": "127.0.0.1", "server.port": port, "browser.serverPort": port}
    st.App(entry).run(config={**CONFIG, **settings})


def show() -> None:
    """Show the page: a style, a piece of HTML, two answers, a script's component, a button below."""
    turn = st.session_state.setdefault(_TURN, 0)

    def pressed() -> None:
        st.session_state[_TURN] = turn + 1

    st.set_page_config(page_title="floor", layout="wide", initial_sidebar_state="collapsed")
    st.html("<style>p { color: black; }</style>")
    st.html(f"<p>{turn} done</p>")
    with st.container(key="answers", horizontal=True):
        st.button("Left", key=f"left-{turn}", shortcut="1", width="stretch", on_click=pressed)
        st.button("Right", key=f"right-{turn}", shortcut="2", width="stretch", on_click=pressed)
    _script()(key=f"script-{turn}", data=[{"turn": turn}], on_answer_change=pressed)
    st.button("Undo", key=f"undo-{turn}", type="tertiary", on_click=pressed)


@cache
def _script() -> Any:  # noqa: ANN401 -- Streamlit's renderer of a component
    return st.components.v2.component("floor", js="export default function () {}")
