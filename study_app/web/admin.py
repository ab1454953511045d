"""Dashboard routes at `/admin`: login, logout and signed session cookies."""

import secrets
import time
from urllib.parse import parse_qs

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from db.utc import utc_now
from study_app.conduct.live_statistics import watch
from study_app.conduct.password import AdminPassword
from study_app.conduct.progress import progress_by_case, study_status
from study_app.service.study import StudyService
from study_app.web.dashboard import dashboard_page, login_page
from study_app.web.join_routes import is_secure
from study_app.web.request_limits import client_address

SESSION_SECONDS = 12 * 3600
DEVICE_SECONDS = 90 * 24 * 3600
_DEVICE = "device"
# far more than a password's form has
MOST_BYTES = 8192
_HEADERS = {"Cache-Control": "no-store"}


def admin(service: StudyService) -> list[Route]:
    """Return the dashboard's routes; they answer 404 until `evalkit study password` has set a password."""
    handlers = AdminRoutes(service)
    return [
        Route("/admin", handlers.show, methods=["GET"]),
        Route("/admin", handlers.log_in, methods=["POST"]),
        Route("/admin/out", handlers.log_out, methods=["POST"]),
    ]


class AdminRoutes:
    """Handlers of the dashboard; a session is a signed, timed cookie that is void once the password changes."""

    def __init__(self, service: StudyService) -> None:
        self.service, self.password = service, AdminPassword(service.blinding.run)
        self.cookie = f"{service.blinding.cookie_name()}_admin"
        self.device_cookie = f"{service.blinding.cookie_name()}_device"

    async def show(self, request: Request) -> Response:
        """Show the dashboard, or the login."""
        if not self.password.exists:
            return _nothing_here()
        if await run_in_threadpool(self._session, request) is None:
            return HTMLResponse(login_page(), status_code=401, headers=_HEADERS)
        return HTMLResponse(await run_in_threadpool(self._dashboard), headers=_HEADERS)

    async def log_in(self, request: Request) -> Response:
        """Start a session if the password is right."""
        if not self.password.exists:
            return _nothing_here()
        given = await _password(request)
        if given is None:
            return PlainTextResponse("too much", status_code=413, headers=_HEADERS)
        device = self._device(request)
        visitor = f"device {device}" if device else f"address {client_address(request.scope)}"
        right = await run_in_threadpool(self.password.opens, given, visitor)
        if right is None:
            return HTMLResponse(
                login_page("Too many attempts. Wait a minute and try again."), status_code=429, headers=_HEADERS
            )
        if not right:
            return HTMLResponse(login_page("The password is wrong. Try again."), status_code=401, headers=_HEADERS)
        answer = RedirectResponse("/admin", status_code=303, headers=_HEADERS)
        cookies = (
            (self.cookie, self._serializer().dumps(secrets.token_hex(16)), SESSION_SECONDS),
            (self.device_cookie, self._serializer(_DEVICE).dumps(device or secrets.token_hex(16)), DEVICE_SECONDS),
        )
        for name, value, seconds in cookies:
            answer.set_cookie(
                name, value, max_age=seconds, path="/admin", httponly=True, samesite="strict", secure=is_secure(request)
            )
        return answer

    async def log_out(self, request: Request) -> Response:
        """End the session, in this browser and wherever its cookie was copied to."""
        session = self._session(request)
        if session is not None:
            await run_in_threadpool(self.password.log.end, session, time.time() + SESSION_SECONDS)
        answer = RedirectResponse("/admin", status_code=303, headers=_HEADERS)
        answer.delete_cookie(self.cookie, path="/admin", httponly=True, samesite="strict")
        return answer

    def _serializer(self, purpose: str = "session") -> URLSafeTimedSerializer:
        secret = self.service.blinding.signature(f"admin {purpose}")
        return URLSafeTimedSerializer(secret, salt=self.password.fingerprint())

    def _session(self, request: Request) -> str | None:
        """Return the id of the session in a request's cookie, None without a valid one."""
        session = _loaded(self._serializer(), request.cookies.get(self.cookie, ""), SESSION_SECONDS)
        return None if session is None or self.password.log.has_ended(session) else session

    def _device(self, request: Request) -> str | None:
        """Return the id of a browser that logged in before: wrong guesses of others at its address do not slow it."""
        return _loaded(self._serializer(_DEVICE), request.cookies.get(self.device_cookie, ""), DEVICE_SECONDS)

    def _dashboard(self) -> str:
        now, study = utc_now(), (self.service.database, self.service.study_id)
        return dashboard_page(study_status(*study), watch(*study, now), progress_by_case(*study), now)


async def _password(request: Request) -> str | None:
    """Return the password in a login's form, None for a body far too large to be one."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]


def _loaded(serializer: URLSafeTimedSerializer, cookie: str, seconds: int) -> str | None:
    try:
        value = serializer.loads(cookie, max_age=seconds)
    except BadData:
        return None
    return value if isinstance(value, str) else None


def _nothing_here() -> Response:
    return PlainTextResponse("not found", status_code=404, headers=_HEADERS)
