"""Recognition of erased participants who return, by salted hashes of their recruiter's id and cookie."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import ErasedPerson, Identity, Participant
from study_app.plan.export_tables import commitment
from study_app.plan.log_start import new_salt
from study_app.plan.recruitment import Recruited

_COOKIE = "cookie"


def remember_erased(session: Session, participant: Participant) -> None:
    """Store salted hashes of a participant's ids, before the ids are deleted."""
    identity = session.get(Identity, participant.id)
    ids = [(_COOKIE, participant.token_sha256)]
    if identity is not None:
        ids.append((identity.source, identity.external_id))
    for cells in ids:
        salt = new_salt()
        session.add(ErasedPerson(study_id=participant.study_id, salt=salt, digest=commitment(cells, salt)))
    session.flush()


def is_erased(session: Session, study_id: int, token_sha256: str | None, recruited: Recruited | None) -> bool:
    """Return whether a visitor, by the hash of their cookie or by their recruiter's id, is an erased participant."""
    ids = list(_ids(token_sha256, recruited))
    rows = session.execute(select(ErasedPerson.salt, ErasedPerson.digest).where(ErasedPerson.study_id == study_id))
    return any(commitment(cells, row.salt) == row.digest for row in rows for cells in ids)


def _ids(token_sha256: str | None, recruited: Recruited | None) -> Iterator[tuple[str, str]]:
    if token_sha256 is not None:
        yield _COOKIE, token_sha256
    if recruited is not None:
        yield recruited.source, recruited.external_id
