"""Amendments of a running study, logged in the hash chain: another number of judgments per comparison."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Comparison, Study
from evalkit.errors import UserError
from study_app.plan.audit_log import append


def amend_target(session: Session, study_id: int, target: int, because: str, now: datetime) -> int:
    """Set how many judgments each comparison gets, and return how many comparisons changed. Call it inside `write`.

    A comparison that has more judgments or reservations already keeps them, so its target is that number.

    Raises:
        UserError: the reason is missing, the study is locked, or nothing would change.
    """
    study = session.scalars(select(Study).where(Study.id == study_id).with_for_update(key_share=True)).one()
    if study.locked_at is not None:
        raise UserError("amend: the study is locked and can't be changed any more; export it")
    if not because.strip():
        raise UserError("amend: the reason is missing; give one with --because, it is part of the export and the report")
    rows = session.scalars(
        select(Comparison).where(Comparison.study_id == study_id).order_by(Comparison.id).with_for_update()
    ).all()
    changes = []
    for comparison in rows:
        wanted = max(target, comparison.filled)
        if wanted != comparison.target:
            changes.append([comparison.id, comparison.target, wanted])
            comparison.target = wanted
    if not changes:
        raise UserError(f"amend: every comparison has a target of {target} already; nothing was changed")
    session.flush()
    append(session, study_id, "amended", {"target": target, "because": because, "targets": changes}, now)
    return len(changes)
