"""Frozen judges and the hash chain of their calls, which names the people's chain and never changes it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Event, JudgeCall, MachineJudge, Study
from evalkit.errors import UserError
from study_app.judges.endpoint import is_loopback
from study_app.judges.judge_types import JudgeType
from study_app.plan.audit_log import canonical, sha256_of
from study_app.plan.wording import sentences_of

PROBE = "probe"


@dataclass(frozen=True)
class JudgeSpec:
    """What is frozen with a judge; `parameters` are those sent with every request, and how answers are read."""

    name: str
    kind: JudgeType
    endpoint: str
    model: str
    parameters: Mapping[str, Any]


def find_judge(session: Session, study_id: int, name: str) -> MachineJudge | None:
    """Return a study's judge by name, or None."""
    return session.scalar(select(MachineJudge).where(MachineJudge.study_id == study_id, MachineJudge.name == name))


def wording_sha256(study: Study) -> str:
    """Return the sha256 of the questions a judge reads."""
    language = str(study.design.get("language", "en"))
    return sha256_of([language, sentences_of(study, language).questions.pair.model_dump(mode="json")])


def begin_judge(session: Session, study: Study, spec: JudgeSpec, probe: Mapping[str, Any], now: datetime) -> MachineJudge:
    """Freeze a judge and return it. Call it inside `write`."""
    last = session.execute(
        select(Event.number, Event.sha256).where(Event.study_id == study.id).order_by(Event.number.desc()).limit(1)
    ).one_or_none()
    judge = MachineJudge(
        study_id=study.id, name=spec.name, kind=spec.kind.name, endpoint=spec.endpoint, model=spec.model,
        parameters={**spec.parameters, PROBE: dict(probe)}, template=spec.kind.template,
        template_sha256=spec.kind.template_sha256, wording_sha256=wording_sha256(study),
        people_events=0 if last is None else last.number,
        people_sha256=study.design_sha256 if last is None else last.sha256, began_at=now, sha256="",
    )  # fmt: skip
    judge.sha256 = start_hash(judge)
    session.add(judge)
    session.flush()
    return judge


def check_frozen(judge: MachineJudge, study: Study, spec: JudgeSpec) -> None:
    """Raise a UserError if a judge began with anything else than `spec`."""
    began = {"type": judge.kind, "model": judge.model, "template": judge.template_sha256, "server": _server(judge.endpoint)}
    began |= {key: value for key, value in judge.parameters.items() if key != PROBE}
    wanted = {"type": spec.kind.name, "model": spec.model, "template": spec.kind.template_sha256}
    wanted |= {"server": _server(spec.endpoint), **spec.parameters}
    changed = sorted(key for key in began.keys() | wanted.keys() if began.get(key) != wanted.get(key))
    if changed:
        key = changed[0]
        raise UserError(
            f"judge {judge.name!r}: began with {key} {began.get(key)!r}, not {wanted.get(key)!r}, and is frozen; "
            "repeat the first call's options, or give another --name"
        )
    if judge.wording_sha256 != wording_sha256(study):
        raise UserError(f"judge {judge.name!r}: began when the study had other questions (another sha256); give another --name")


def _server(endpoint: str) -> str:
    """Return an endpoint as it is frozen: of this machine without its port, which changes from day to day."""
    parts = urlsplit(endpoint)
    return f"this machine{parts.path}" if is_loopback(parts.hostname or "") else endpoint


def start_hash(judge: MachineJudge) -> str:
    """Return the sha256 that the chain of a judge's calls starts from."""
    return sha256_of(
        [judge.name, judge.kind, judge.endpoint, judge.model, judge.parameters, judge.template, judge.template_sha256,
         judge.wording_sha256, judge.people_events, judge.people_sha256, judge.began_at.isoformat()]
    )  # fmt: skip


def call_hash(previous: str, call: JudgeCall) -> str:
    """Return the sha256 of an answered call: of the previous hash and of all that is stored about the call."""
    answered = call.answered_at.isoformat() if call.answered_at is not None else None
    text = canonical(
        [call.number, call.comparison_id, call.question, call.swapped, call.repetition, call.state, call.choice, call.score,
         call.reason, call.requests, call.request_sha256, call.response, call.prompt_tokens, call.completion_tokens,
         call.latency_ms, call.asked_at.isoformat(), answered]
    )  # fmt: skip
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def append_call(session: Session, call: JudgeCall) -> None:
    """Give an answered call its number and hash. Call it inside `write`, last."""
    # writers of one judge wait for each other, since each call needs the previous hash
    judge = session.scalars(select(MachineJudge).where(MachineJudge.id == call.judge_id).with_for_update(key_share=True)).one()
    last = session.execute(
        select(JudgeCall.number, JudgeCall.sha256)
        .where(JudgeCall.judge_id == judge.id, JudgeCall.number.is_not(None))
        .order_by(JudgeCall.number.desc())
        .limit(1)
    ).one_or_none()
    number, previous = (0, judge.sha256) if last is None else (last.number or 0, last.sha256 or "")
    call.number = number + 1
    call.sha256 = call_hash(previous, call)


def broken_link(session: Session, judge: MachineJudge) -> int | None:
    """Return the number of the first call that was changed after it was stored, 0 for the judge itself, None if none was."""
    previous = start_hash(judge)
    if previous != judge.sha256:
        return 0
    calls = session.scalars(
        select(JudgeCall).where(JudgeCall.judge_id == judge.id, JudgeCall.number.is_not(None)).order_by(JudgeCall.number)
    )
    for number, call in enumerate(calls, 1):
        if call.number != number or call.sha256 != call_hash(previous, call):
            return number
        previous = call.sha256
    return None
