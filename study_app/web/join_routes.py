"""Routes for joining and leaving: token cookie, removal of recruiter ids from addresses, redirect at the end."""

from html import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from study_app.plan.recruitment import read_parameters
from study_app.service.openness import Openness
from study_app.service.study import StudyService
from study_app.web.request_limits import AddressCounts

_STYLE = ":root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui;max-width:40rem;margin:15vh auto;padding:0 1rem}"
COOKIE_SECONDS = 90 * 24 * 3600


def entrance(service: StudyService, counts: AddressCounts) -> list[Route]:
    """Return the routes `/join`, which adds a participant, and `/done`, which redirects a finished one."""
    name, entry = service.blinding.cookie_name(), service.design.entry

    async def join(request: Request) -> Response:
        """Make a participant, unless the browser has one, and hand over their token in a cookie scripts can't read."""
        answer = _go("/")
        recruited = None if entry.recruitment == "open" else read_parameters(entry.recruitment, request.query_params)
        known = await run_in_threadpool(service.visitor, request.cookies.get(name))
        if recruited is None and (known is not None or entry.recruitment != "open"):
            return answer
        wanted = request.query_params.get("lang")
        language = wanted if wanted in service.languages else None
        shown = language or service.design.language
        if await run_in_threadpool(service.is_erased, request.cookies.get(name), recruited):
            words = service.sentences_in(shown).erased
            return notice_page(words.heading, words.body, shown)
        is_new = known is None and not (recruited is not None and await run_in_threadpool(service.is_known, recruited))
        if is_new and await run_in_threadpool(service.openness) is Openness.ENDED:
            return answer
        if not counts.join(request.scope):
            busy = service.sentences_in(shown).busy
            return notice_page(busy.heading, busy.body, shown, status=429, retry_seconds=600)
        token = await run_in_threadpool(service.join, recruited, language)
        answer.set_cookie(name, token, max_age=COOKIE_SECONDS, httponly=True, samesite="lax", secure=is_secure(request))
        return answer

    async def done(request: Request) -> Response:
        """Redirect a finished participant to the design's address with their code; anyone else to their page."""
        visitor = await run_in_threadpool(service.visitor, request.cookies.get(name))
        if entry.completion_url is None or visitor is None or not (visitor.progress.finished and visitor.progress.questioned):
            return _go("/")
        if not await run_in_threadpool(service.has_judged, visitor.id):
            # a completion code is paid; who judged nothing has none
            return _go("/")
        return _go(entry.completion_url.replace("{code}", entry.completion_code or visitor.completion_code))

    return [Route("/join", join), Route("/done", done)]


def is_secure(request: Request) -> bool:
    """Return whether the browser speaks TLS; behind a proxy that speaks it for us, only the proxy knows."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def notice_page(heading: str, body: str, language: str, status: int = 200, retry_seconds: int | None = None) -> Response:
    """Return a page of one heading and one paragraph, without Streamlit; it reloads itself after `retry_seconds`."""
    title, text = escape(heading), escape(body)
    page = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>{text}</p></body></html>"
    )
    headers = {"Cache-Control": "no-store"}
    if retry_seconds is not None:
        headers |= {"Retry-After": str(retry_seconds), "Refresh": str(retry_seconds)}
    return HTMLResponse(page, status_code=status, headers=headers)


def _go(where: str) -> RedirectResponse:
    return RedirectResponse(where, status_code=303, headers={"Cache-Control": "no-store"})
