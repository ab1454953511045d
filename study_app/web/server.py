"""The study's web server: Streamlit for the pages, own routes for joining and for blinded images, security headers on all."""

import gc
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from streamlit.web.server.starlette import starlette_server

from db.session import DatabaseError
from study_app.service.study import StudyService
from study_app.web import current_study as running
from study_app.web.admin import admin
from study_app.web.join_routes import entrance, notice_page
from study_app.web.open_files import AcceptErrorsOnce, most_pages, raise_limit
from study_app.web.request_limits import AddressCounts, Limits
from study_app.web.security import SecurityHeaders

ENTRY = Path(__file__).with_name("streamlit_script.py")
# Why each: reference settings for a study page. The first alone makes a page turn ten times as fast, since Streamlit
# otherwise collects all garbage after every run of the script.
CONFIG = {
    "runner.postScriptGC": False,
    "runner.magicEnabled": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.enableStaticServing": False,
    "server.maxUploadSize": 1,
    "server.maxWidgetStateSize": 1,
    "browser.gatherUsageStats": False,
    # participants must never read a traceback, which would reveal paths
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    # the command prints the address; Streamlit would contact an external server to print its own
    "logger.hideWelcomeMessage": True,
    # light or dark as the participant's system is
    "theme.light.primaryColor": "#2b59c3",
    "theme.light.backgroundColor": "#fbfbfa",
    "theme.light.secondaryBackgroundColor": "#f1f1ee",
    "theme.light.textColor": "#1d1d1f",
    "theme.dark.primaryColor": "#8fb0ff",
    "theme.dark.backgroundColor": "#1c1c1e",
    "theme.dark.secondaryBackgroundColor": "#2a2a2d",
    "theme.dark.textColor": "#f0f0ee",
}
_FILES_LOGGER = "asyncio"
# read by uvicorn: from which addresses X-Forwarded-For and X-Forwarded-Proto are believed
_PROXIES = "FORWARDED_ALLOW_IPS"


def own_routes(service: StudyService, counts: AddressCounts | None = None) -> list[Route]:
    """Return the routes besides Streamlit's pages: joining and leaving, blinded images, health."""
    counts = counts or AddressCounts()

    async def image(request: Request) -> Response:
        """Send a blinded image to the participant whose page shows it now; to anyone else it does not exist."""
        token = request.cookies.get(service.blinding.cookie_name())
        data = await run_in_threadpool(service.stimulus, token, request.path_params["token"])
        if data is None:
            return PlainTextResponse("not found", status_code=404, headers={"Cache-Control": "no-store"})
        # "identity": prevents compression on the way, which would change the size
        headers = {"Cache-Control": "private, max-age=600", "Content-Encoding": "identity"}
        return Response(data, media_type="image/png", headers=headers)

    async def healthy(_: Request) -> Response:
        """Report whether the database answers; for a proxy or a container."""
        try:
            await run_in_threadpool(service.visitor, "unknown")
        except DatabaseError:
            return PlainTextResponse("the database does not answer", status_code=503, headers={"Cache-Control": "no-store"})
        return PlainTextResponse("ok", headers={"Cache-Control": "no-store"})

    return [*entrance(service, counts), *admin(service), Route("/i/{token:str}", image), Route("/healthz", healthy)]


@asynccontextmanager
async def _settled(_: st.App) -> AsyncIterator[None]:
    """Let the collection of garbage pass by what is loaded once; to look through all of it delays all requests each time."""
    gc.collect()
    gc.freeze()
    yield


def make_app(service: StudyService, limits: Limits | None = None) -> st.App:
    """Return the web application of a study."""
    running.use(service)
    counts = AddressCounts(limits or Limits())
    words = service.sentences.busy

    def busy() -> Response:
        return notice_page(words.heading, words.body, service.design.language, status=503, retry_seconds=30)

    security = Middleware(SecurityHeaders, counts=counts, busy=busy)
    return st.App(ENTRY, lifespan=_settled, routes=own_routes(service, counts), middleware=[security])


def serve_study(service: StudyService, host: str, port: int, limits: Limits | None = None, proxies: Sequence[str] = ()) -> None:
    """Serve a study until the process is told to stop; the header `X-Forwarded-For` is trusted from `proxies` alone."""
    limits = replace(limits or Limits(), pages=most_pages(raise_limit()))
    logging.getLogger(_FILES_LOGGER).addFilter(AcceptErrorsOnce())
    if proxies:
        os.environ[_PROXIES] = ",".join(proxies)
    _hide_server()
    config = {**CONFIG, "server.address": host, "server.port": port, "browser.serverPort": port}
    make_app(service, limits).run(config=config)


def _hide_server() -> None:
    """Let uvicorn send no header that names it; Streamlit has no setting for this."""
    settings = starlette_server._get_uvicorn_config_kwargs
    starlette_server._get_uvicorn_config_kwargs = lambda: {**settings(), "server_header": False}
