"""Amendments of a study while it ran, as the audit log has them."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import models
from evalkit.plural import plural


def read_amendments(session: Session, run_id: int) -> tuple[str, ...]:
    """Return one sentence per amendment, in their order."""
    events = session.execute(
        select(models.Event.content, models.Event.happened_at)
        .join(models.Study, models.Study.id == models.Event.study_id)
        .where(models.Study.run_id == run_id, models.Event.kind == "amended")
        .order_by(models.Event.number)
    )
    return tuple(
        f"Amended on {moment:%Y-%m-%d %H:%M} UTC: {plural(content['target'], 'judgment')} per comparison "
        f"({plural(len(content['targets']), 'comparison')} changed; {content['because']})."
        for content, moment in events
    )
