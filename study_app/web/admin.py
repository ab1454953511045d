"""Admin access: `/admin` shows the dashboard after login, and the login form before."""

import hmac
import time
from urllib.parse import parse_qs

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

VISIT_SECONDS = 12 * 3600
# far more than a password's form has
MOST_BYTES = 8192
_HEADERS = {"Cache-Control": "no-store"}


def admin(service: StudyService) -> list[Route]:
    """Return the routes of the dashboard; they answer 404 until `evalkit study password` has set a password."""
    desk = AdminRoutes(service)
    return [
        Route("/admin", desk.show, methods=["GET"]),
        Route("/admin", desk.log_in, methods=["POST"]),
        Route("/admin/out", desk.log_out, methods=["POST"]),
    ]


class AdminRoutes:
    """Who may see the dashboard, and what it shows; a visit is a signed cookie that ends with the password it began under."""

    def __init__(self, service: StudyService) -> None:
        self.service, self.door = service, AdminPassword(service.blinding.run)
        self.cookie = f"{service.blinding.cookie_name()}_admin"

    async def show(self, request: Request) -> Response:
        """Show the dashboard, or the login."""
        if not self.door.exists:
            return _nothing_here()
        if not self._is_in(request.cookies.get(self.cookie, "")):
            return HTMLResponse(login_page(), status_code=401, headers=_HEADERS)
        return HTMLResponse(await run_in_threadpool(self._seen), headers=_HEADERS)

    async def log_in(self, request: Request) -> Response:
        """Log in a visitor who gives the password."""
        if not self.door.exists:
            return _nothing_here()
        given = await _password(request)
        if given is None:
            return PlainTextResponse("too much", status_code=413, headers=_HEADERS)
        right = await run_in_threadpool(self.door.opens, given)
        if right is None:
            return HTMLResponse(login_page("Too many tries. Wait a minute."), status_code=429, headers=_HEADERS)
        if not right:
            return HTMLResponse(login_page("That is not the password."), status_code=401, headers=_HEADERS)
        answer = RedirectResponse("/admin", status_code=303, headers=_HEADERS)
        value, secure = self._signed(int(time.time()) + VISIT_SECONDS), is_secure(request)
        answer.set_cookie(
            self.cookie, value, max_age=VISIT_SECONDS, path="/admin", httponly=True, samesite="strict", secure=secure
        )
        return answer

    async def log_out(self, _: Request) -> Response:
        """End the visit."""
        answer = RedirectResponse("/admin", status_code=303, headers=_HEADERS)
        answer.delete_cookie(self.cookie, path="/admin", httponly=True, samesite="strict")
        return answer

    def _signed(self, until: int) -> str:
        return f"{until}.{self.service.blinding.signature(f'admin {until} {self.door.fingerprint()}')}"

    def _is_in(self, cookie: str) -> bool:
        until = cookie.partition(".")[0]
        if not until.isascii() or not until.isdigit() or len(until) > 12 or int(until) < time.time():
            return False
        return hmac.compare_digest(cookie.encode(), self._signed(int(until)).encode())

    def _seen(self) -> str:
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


def _nothing_here() -> Response:
    return PlainTextResponse("not found", status_code=404, headers=_HEADERS)
