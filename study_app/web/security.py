"""Security middleware: allowlist of paths, security headers, limits of open pages, messages without machine data."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from study_app.plan.recruitment import names_someone
from study_app.web.first_frame import without_machine
from study_app.web.request_limits import AddressCounts

HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# {sockets}: websockets of this host alone; 'self' includes them in newer browsers only
_CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self'{sockets}; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
# No page of a study sends more.
MOST_BYTES = 2**20
# All that a study needs: anything else of Streamlit (uploads, media, components, metrics) does not exist.
SOCKET = "/_stcore/stream"
_PATHS = frozenset(
    ("/", "/index.html", "/favicon.png", "/manifest.json", "/join", "/done", "/healthz", "/admin", "/admin/out",
     "/_stcore/health", "/_stcore/host-config", SOCKET)
)  # fmt: skip
FOLDERS = ("/i/", "/static/")
# RFC 6455, section 7.4.1, and the IANA registry of close codes
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013
BusyPage = Callable[[], Response]


class SecurityHeaders:
    """Answers only what a study needs, with security headers, and limits open pages."""

    def __init__(
        self,
        app: ASGIApp,
        counts: AddressCounts | None = None,
        busy: BusyPage | None = None,
        folders: tuple[str, ...] = FOLDERS,
    ) -> None:
        self.app = app
        self.folders = folders
        self.counts = counts or AddressCounts()
        self.busy = busy or (lambda: PlainTextResponse("busy", status_code=503))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a websocket on, unless it is refused."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != SOCKET or _from_elsewhere(scope):
            # Streamlit refuses the latter too, but asks a server of others for this machine's address meanwhile
            await WebSocketClose(code=POLICY_VIOLATION)(scope, receive, send)
            return
        name = self.counts.open_page(scope)
        if name is None:
            await WebSocketClose(code=TRY_AGAIN_LATER)(scope, receive, send)
            return

        async def send_without_machine(message: Message) -> None:
            if message["type"] == "websocket.send" and message.get("bytes"):
                message = {**message, "bytes": without_machine(message["bytes"])}
            await send(message)

        try:
            await self.app(scope, receive, send_without_machine)
        finally:
            self.counts.close_page(name)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _CONTENT_POLICY.format(sockets=_sockets(scope))
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        await (self.app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not passed on, None for one that is."""
        path: str = scope["path"]
        if not (path in _PATHS or path.startswith(self.folders)):
            return PlainTextResponse("not found", status_code=404)
        if path == "/" and names_someone(Request(scope).query_params):
            # a recruiter's id must not stay in the address, where the page and bystanders could read it
            return RedirectResponse(f"/join?{scope['query_string'].decode('latin-1')}", status_code=303)
        if _claims_too_much(scope):
            return PlainTextResponse("too much", status_code=413)
        if path in ("/", "/join") and self.counts.is_full:
            return self.busy()
        return None


def _sockets(scope: Scope) -> str:
    host = Headers(scope=scope).get("host", "")
    return f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""


def _from_elsewhere(scope: Scope) -> bool:
    """Return whether a websocket is opened by a page of another host; clients other than browsers send no origin."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _claims_too_much(scope: Scope) -> bool:
    """Return whether a request announces a body that no page of a study sends."""
    length = Request(scope).headers.get("content-length", "0")
    return not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > MOST_BYTES
