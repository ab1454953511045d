"""Pages of a study that hands out nothing at this moment: locked, paused, full, resting, or ended by failed checks."""

import math
from html import escape

from db.utc import utc_now
from study_app.service.openness import Openness
from study_app.service.view_models import Turn, Visitor
from study_app.web.markdown_text import block
from study_app.web.page_context import PageContext, renew_page

WAITING_SECONDS = 20


def show_closed(scene: PageContext, visitor: Visitor, turn: Turn) -> bool:
    """Show why a participant has nothing to judge now; return whether that is so."""
    words, service = scene.words.rest, scene.service
    if turn.is_locked:
        has_judged = service.has_judged(visitor.id)
        body = words.ended_early if has_judged else words.ended_body
        scene.prose(words.ended_heading, block(body) + scene.code("partly" if has_judged else "full"))
    elif turn.is_ended:
        scene.prose(scene.words.entry.checks_heading, block(scene.words.entry.checks_body) + scene.code("partly"))
    elif turn.is_waiting:
        _waiting(scene, visitor)
    elif not turn.is_open:
        code = scene.code("partly") if service.has_judged(visitor.id) else ""
        partly = block(words.paused_partly) + code if code else ""
        scene.prose(words.paused_heading, f"<p>{escape(words.paused_body)}</p>{partly}")
    elif turn.resting_until is not None:
        hours = max(1, math.ceil((turn.resting_until - utc_now()).total_seconds() / 3600))
        scene.prose(words.session_heading, f"<p>{escape(words.session_body.format(hours=hours))}</p>")
    else:
        return False
    return True


def _waiting(scene: PageContext, visitor: Visitor | None) -> None:
    """Show that all places are held by others; the page renews itself, and who judged something may finish."""
    words = scene.words.rest
    scene.prose(words.waiting_heading, f'<div class="study-waiting">{block(words.waiting_body)}</div>')
    renew_page(WAITING_SECONDS)
    if visitor is not None and scene.service.has_judged(visitor.id):
        scene.onward(words.finish_now, "finish-now", lambda: scene.service.finish_step(visitor.id, "finished_at"))


def is_closed(scene: PageContext) -> bool:
    """Tell a newcomer, before consent, that they would get nothing to judge; return whether that is so."""
    words, state = scene.words.rest, scene.service.openness()
    if state is Openness.OPEN:
        return False
    if state is Openness.WAITING:
        _waiting(scene, None)
    elif state is Openness.PAUSED:
        scene.prose(words.paused_heading, block(words.paused_body))
    else:
        scene.prose(words.ended_heading, block(words.ended_body) + scene.code("full"))
    return True
