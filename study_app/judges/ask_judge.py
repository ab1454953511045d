"""One run of a judge: probe, ask what is missing, store each answer before the next request, stop at the budget."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from db.models import JudgeCall, MachineJudge
from db.session import Database, read, write
from db.utc import utc_now
from study_app.judges.budget import Spending
from study_app.judges.chat_client import CallFailedError, ChatClient, ChatReply
from study_app.judges.judge_chain import PROBE, append_call
from study_app.judges.judge_pages import CallKey, JudgePages
from study_app.judges.judge_types import JudgeType, judge_type
from study_app.judges.pace import Pace
from study_app.judges.request_body import body_sha256, chat_body, estimated_tokens

# of an answer that is none, so much is stored
LONGEST_TEXT = 2000
ANSWER = "answer"


@dataclass(frozen=True)
class JudgeProgress:
    """What a run of a judge has done: calls answered or given up in all, and why it ended."""

    wanted: int
    done: int
    at_budget: bool


@dataclass
class JudgeRun:
    """Asks what a frozen judge has not been asked yet."""

    database: Database
    pages: JudgePages
    judge_id: int
    client: ChatClient
    spending: Spending
    pace: Pace
    retries: int = 1
    """How often a refusal or an unreadable answer is asked again."""
    advance: Callable[[], None] = lambda: None
    _at_budget: threading.Event = field(default_factory=threading.Event, repr=False)
    _succeeded: threading.Event = field(default_factory=threading.Event, repr=False)
    _error: BaseException | None = field(default=None, repr=False)

    def ask(self, wanted: Sequence[CallKey]) -> JudgeProgress:
        """Ask all of `wanted` that has no answer yet.

        Raises:
            JudgeStopError: the endpoint refuses in a way that no further request would change.
        """
        with read(self.database) as session:
            judge = session.get_one(MachineJudge, self.judge_id)
            kind, model, parameters = judge_type(judge.kind), judge.model, dict(judge.parameters)
            done = self._done(session.execute(select(JudgeCall).where(JudgeCall.judge_id == judge.id)).scalars())
        answer = parameters.pop(ANSWER)
        for name in (PROBE, "longest_side"):
            parameters.pop(name, None)
        missing = iter([key for key in wanted if key not in done])
        lock = threading.Lock()

        def work() -> None:
            while not self.pace.stopped.is_set():
                with lock:
                    key = next(missing, None)
                if key is None:
                    return
                try:
                    self._answer(key, kind, model, parameters, answer)
                except BaseException as error:  # noqa: BLE001 -- raised again by the caller's thread
                    self._error = self._error or error
                    self.pace.stop()

        with ThreadPoolExecutor(self.pace.most, thread_name_prefix="judge") as pool:
            try:
                for future in [pool.submit(work) for _ in range(self.pace.most)]:
                    future.result()
            except BaseException:
                self.pace.stop()
                raise
        if self._error is not None:
            raise self._error
        with read(self.database) as session:
            stored = self._done(session.scalars(select(JudgeCall).where(JudgeCall.judge_id == self.judge_id)))
        return JudgeProgress(len(wanted), len(stored.intersection(wanted)), self._at_budget.is_set())

    @staticmethod
    def _done(calls: Iterator[JudgeCall]) -> set[CallKey]:
        return {
            CallKey(call.comparison_id, call.question, call.repetition, call.swapped) for call in calls if call.state != "open"
        }

    def _answer(self, key: CallKey, kind: JudgeType, model: str, parameters: Mapping[str, Any], answer: str) -> None:
        with self.pace.turn() as may_run:
            if not may_run:
                return
            page = self.pages.page(key.comparison_id, key.question)
            body = chat_body(kind, page, key.swapped, model, parameters, answer)
            estimate = estimated_tokens(kind.parts(page, key.swapped))
            call_id: int | None = None
            reserved: list[float] = []

            def before_request(number: int) -> bool:
                """Reserve the request and store that it is sent, so that a killed run has counted it."""
                nonlocal call_id
                self._settle(reserved, None)
                if self.pace.stopped.is_set():
                    return False
                amount = self.spending.reserve(estimate)
                if amount is None:
                    self._at_budget.set()
                    self.pace.stop()
                    return False
                reserved.append(amount)
                call_id = self._claim(key, body_sha256(body))
                return True

            try:
                outcome = self._outcome(body, kind, page.cannot_tell, before_request, reserved)
            finally:
                self._settle(reserved, None)
            if outcome is None or call_id is None:
                return
            self._store(call_id, outcome)
            self.pace.answered()
            self.advance()

    def _outcome(
        self,
        body: Mapping[str, Any],
        kind: JudgeType,
        cannot_tell: bool,
        before_request: Callable[[int], bool],
        reserved: list[float],
    ) -> dict[str, Any] | None:
        """Return the columns of an answered call, or None if the run was stopped before there was an answer."""
        columns: dict[str, Any] = {}
        prompt = completion = None
        for _ in range(1 + self.retries):
            try:
                reply = self.client.ask(body, before_request, first=not self._succeeded.is_set())
            except CallFailedError as error:
                return {"state": "failed", "reason": str(error), "response": {}}
            if reply is None:
                # an answer that is none was stored nowhere; it is asked again when the run resumes
                return None
            self._succeeded.set()
            self._settle(reserved, reply)
            prompt = _sum(prompt, reply.prompt_tokens)
            completion = _sum(completion, reply.completion_tokens)
            columns = read_reply(reply, kind, cannot_tell)
            if columns["state"] == "answered":
                break
        return {**columns, "prompt_tokens": prompt, "completion_tokens": completion}

    def _settle(self, reserved: list[float], reply: ChatReply | None) -> None:
        if reserved:
            tokens = (None, None) if reply is None else (reply.prompt_tokens, reply.completion_tokens)
            self.spending.settle(reserved.pop(), *tokens)

    def _claim(self, key: CallKey, request_sha256: str) -> int:
        with write(self.database) as session:
            call = session.scalar(
                select(JudgeCall).where(
                    JudgeCall.judge_id == self.judge_id, JudgeCall.comparison_id == key.comparison_id,
                    JudgeCall.question == key.question, JudgeCall.swapped == key.swapped,
                    JudgeCall.repetition == key.repetition,
                )
            )  # fmt: skip
            if call is None:
                call = JudgeCall(
                    judge_id=self.judge_id, comparison_id=key.comparison_id, question=key.question, swapped=key.swapped,
                    repetition=key.repetition, state="open", requests=0, request_sha256=request_sha256, response={},
                    asked_at=utc_now(),
                )  # fmt: skip
                session.add(call)
            call.requests += 1
            call.request_sha256 = request_sha256
            session.flush()
            return call.id

    def _store(self, call_id: int, columns: Mapping[str, Any]) -> None:
        # state and number change together, as the table demands
        with write(self.database) as session, session.no_autoflush:
            call = session.get_one(JudgeCall, call_id)
            for name, value in columns.items():
                setattr(call, name, value)
            call.answered_at = utc_now()
            append_call(session, call)


def read_reply(reply: ChatReply, kind: JudgeType, cannot_tell: bool) -> dict[str, Any]:
    """Return the columns of a call that was answered, refused or answered unreadably; nothing is guessed."""
    columns: dict[str, Any] = {
        "choice": None, "score": None, "reason": None, "latency_ms": round(1000 * reply.seconds),
        "response": {
            "text": reply.text[:LONGEST_TEXT], "finish_reason": reply.finish_reason, "model": reply.model, **reply.details,
        },
    }  # fmt: skip
    if reply.refusal or reply.finish_reason == "content_filter":
        return {**columns, "state": "refused", "reason": (reply.refusal or "content filter")[:200]}
    if reply.finish_reason == "length":
        return {**columns, "state": "unreadable", "reason": "the answer was cut at max_tokens"}
    answer = kind.read(reply.text, cannot_tell)
    if answer is None:
        return {**columns, "state": "unreadable", "reason": "empty" if not reply.text.strip() else "not one of the answers"}
    return {**columns, "state": "answered", "choice": answer.choice, "score": answer.score}


def spent_before(database: Database, judge_id: int, spending: Spending) -> None:
    """Add what earlier runs of a judge spent; requests without reported tokens are taken at the largest that is known."""
    with read(database) as session:
        judge = session.get_one(MachineJudge, judge_id)
        rows = session.execute(
            select(JudgeCall.requests, JudgeCall.prompt_tokens, JudgeCall.completion_tokens).where(
                JudgeCall.judge_id == judge_id
            )
        ).all()
    probe = judge.parameters.get(PROBE, {})
    known = [int(probe.get("prompt_tokens") or 0), *(row.prompt_tokens or 0 for row in rows)]
    spending.largest_prompt = max([spending.largest_prompt, *known[:1]])
    spending.calls += int(probe.get("requests", 0)) + sum(row.requests for row in rows)
    spending.prompt_tokens += int(probe.get("requests", 0)) * known[0]
    for row in rows:
        unreported = 0 if row.prompt_tokens is not None else row.requests
        spending.prompt_tokens += row.prompt_tokens if row.prompt_tokens is not None else unreported * max(known)
        spending.completion_tokens += (
            row.completion_tokens if row.completion_tokens is not None else unreported * spending.completion_cap
        )


def _sum(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more
