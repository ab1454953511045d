"""The server of `evalkit explore`: Streamlit on this machine alone, since the page shows which arm generated which image."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from study_app.explore.page import Explored, use
from study_app.web.security import FOLDERS, SecurityHeaders
from study_app.web.server import CONFIG

ENTRY = Path(__file__).with_name("streamlit_script.py")


def serve(explored: Explored, port: int) -> None:
    """Serve the page until the process is stopped."""
    use(explored)
    app = st.App(ENTRY, middleware=[Middleware(SecurityHeaders, folders=(*FOLDERS, "/media/"))])
    app.run(config={**CONFIG, "server.address": "127.0.0.1", "server.port": port, "browser.serverPort": port})
