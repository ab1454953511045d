"""The study's web server: Streamlit for the pages, own routes for joining and for blinded images, security headers on all."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from db.session import DatabaseError
from study_app.plan.recruitment import names_someone
from study_app.service.study import StudyService
from study_app.web import current_study as running
from study_app.web.admin import admin
from study_app.web.join_routes import entrance

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
    # participants must never read a traceback, which would tell paths
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    # the command says where people go; to print its own lines Streamlit would ask a server of others for this machine's address
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
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; font-src 'self' data:; "
        "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# No page of a study sends more.
MOST_BYTES = 2**20
# What Streamlit would show to anyone who asks, and no participant needs.
CLOSED = ("/_stcore/metrics", "/_stcore/script-health-check")
# RFC 6455, section 7.4.1
POLICY_VIOLATION = 1008


class SecurityHeaders:
    """Set the security headers on every answer, and close what participants have no business with."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a websocket goes through unchanged unless a page of another site opens it."""
        if scope["type"] == "websocket" and _from_elsewhere(scope):
            # Streamlit refuses it too, but holds everybody up meanwhile: it asks a server of others for this machine's address
            await WebSocketClose(code=POLICY_VIOLATION)(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if "server" in headers:
                    del headers["server"]
            await send(message)

        if scope["path"] == "/" and names_someone(Request(scope).query_params):
            # a recruiter's id must not stay in the address, where the page and whoever looks on could read it
            target = f"/join?{scope['query_string'].decode('latin-1')}"
            await RedirectResponse(target, status_code=303)(scope, receive, send_with_headers)
            return
        if _claims_too_much(scope):
            await PlainTextResponse("too much", status_code=413)(scope, receive, send_with_headers)
            return
        if scope["path"].rstrip("/") in CLOSED:
            await PlainTextResponse("not found", status_code=404)(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


def _from_elsewhere(scope: Scope) -> bool:
    """Return whether a websocket is opened by another host's page; other programs name no page."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _claims_too_much(scope: Scope) -> bool:
    """Tell whether a request announces a body that no page of a study sends."""
    length = Request(scope).headers.get("content-length", "0")
    return not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > MOST_BYTES


def own_routes(service: StudyService) -> list[Route]:
    """Return the routes in addition to Streamlit's pages: joining and leaving, blinded images, health."""

    async def image(request: Request) -> Response:
        """Send a blinded image to the participant whose page shows it now; to anyone else it does not exist."""
        token = request.cookies.get(service.blinding.cookie_name())
        data = await run_in_threadpool(service.stimulus, token, request.path_params["token"])
        if data is None:
            return PlainTextResponse("not found", status_code=404, headers={"Cache-Control": "no-store"})
        # "identity": left alone by any compression on the way, whose result would have a size of its own
        headers = {"Cache-Control": "private, max-age=600", "Content-Encoding": "identity"}
        return Response(data, media_type="image/png", headers=headers)

    async def healthy(_: Request) -> Response:
        """Say whether the database answers; for a proxy or a container."""
        try:
            await run_in_threadpool(service.visitor, "nobody")
        except DatabaseError:
            return PlainTextResponse("the database does not answer", status_code=503, headers={"Cache-Control": "no-store"})
        return PlainTextResponse("ok", headers={"Cache-Control": "no-store"})

    return [*entrance(service), *admin(service), Route("/i/{token:str}", image), Route("/healthz", healthy)]


@asynccontextmanager
async def _settled(_: st.App) -> AsyncIterator[None]:
    """Let the collection of garbage pass by what is loaded once; to look through all of it holds up everybody each time."""
    gc.collect()
    gc.freeze()
    yield


def make_app(service: StudyService) -> st.App:
    """Return the web application of a study."""
    running.use(service)
    return st.App(ENTRY, lifespan=_settled, routes=own_routes(service), middleware=[Middleware(SecurityHeaders)])


def serve_study(service: StudyService, host: str, port: int) -> None:
    """Serve a study until the process is told to stop."""
    make_app(service).run(config={**CONFIG, "server.address": host, "server.port": port, "browser.serverPort": port})
