"""Client of OpenAI-compatible chat endpoints: one request, its retries with back-off, and what its outcome means."""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from evalkit.errors import UserError, first_line
from study_app.judges.endpoint import Endpoint

MOST_REQUESTS = 6
FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0
# a server that asks for a longer wait is not waited for
LONGEST_RETRY_AFTER = 120.0
CONNECT_SECONDS = 5.0
# an answer of a few letters; whatever is longer is not read
LARGEST_BODY = 1_000_000
_RETRIED = {408, 409, 429}
_REFUSED = {401: "the key is missing or wrong", 403: "the key may not use this model"}


class JudgeStopError(UserError):
    """The run must stop: every further request would fail in the same way."""


class CallFailedError(Exception):
    """One call has no answer; the run continues."""


@dataclass(frozen=True)
class ChatReply:
    """One answer of the server."""

    text: str
    refusal: str
    finish_reason: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ChatClient:
    """Sends requests to one endpoint; safe to use from several threads.

    Attributes
    ----------
    endpoint : where to send
    timeout : seconds to wait for an answer
    slower : called when the server asks for less, or fails
    wait : sleeps; returns True if the run was stopped meanwhile
    """

    endpoint: Endpoint
    timeout: float = 120.0
    slower: Callable[[], None] = lambda: None
    wait: Callable[[float], bool] = threading.Event().wait
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def ask(self, body: Mapping[str, Any], before_request: Callable[[int], bool], first: bool = False) -> ChatReply | None:
        """Return the server's answer; None if the run was stopped before there was one.

        `before_request` gets the number of each request, from 0, and returns whether it may be sent. `first` means that no
        request has succeeded yet, so that a refused request is a mistake in the configuration.

        Raises:
            JudgeStopError: the configuration is wrong, or the account is empty.
            CallFailedError: this request cannot be answered.
        """
        reason = ""
        for number in range(MOST_REQUESTS):
            if not before_request(number):
                return None
            try:
                return self._once(body, first)
            except TryAgainError as again:
                reason = str(again)
                if not again.is_transport or number:
                    self.slower()
                if number + 1 < MOST_REQUESTS and self.wait(again.delay(number)):
                    return None
        raise CallFailedError(f"{MOST_REQUESTS} requests failed; the last one: {reason}")

    def _once(self, body: Mapping[str, Any], first: bool) -> ChatReply:
        headers = {"content-type": "application/json"}
        if self.endpoint.key is not None:
            headers["authorization"] = f"Bearer {self.endpoint.key}"
        begun = time.monotonic()
        try:
            # a redirect would send the images to a host that nobody consented to
            with self._session().post(
                f"{self.endpoint.url}/chat/completions",
                data=json.dumps(body).encode(),
                headers=headers,
                timeout=(CONNECT_SECONDS, self.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                content = self._body(response, begun)
        except requests.RequestException as error:
            raise TryAgainError(_transport(error), is_transport=True) from None
        seconds = time.monotonic() - begun
        if response.status_code == 200:
            return _reply(content, seconds, response.headers.get("x-request-id"))
        raise self._problem(response, content, first)

    def _body(self, response: requests.Response, begun: float) -> bytes:
        parts, size = [], 0
        for part in response.iter_content(65536):
            size += len(part)
            if size > LARGEST_BODY:
                raise CallFailedError(f"the answer is larger than {LARGEST_BODY:,} bytes")
            if time.monotonic() - begun > self.timeout:
                raise TryAgainError(f"no whole answer within {self.timeout:g} s", is_transport=True)
            parts.append(part)
        return b"".join(parts)

    def _problem(self, response: requests.Response, content: bytes, first: bool) -> Exception:
        status, said = response.status_code, _message(content)
        where = self.endpoint.url
        text = f"HTTP {status}{f': {said}' if said else ''}"
        if status in _REFUSED:
            return JudgeStopError(f"{where}: {_REFUSED[status]} ({text}); set the right key")
        if status == 429 and "insufficient_quota" in content[:2000].decode("utf-8", "replace"):
            return JudgeStopError(f"{where}: the account is empty ({text}); add credit, then repeat the command to resume")
        if 300 <= status < 400:
            return JudgeStopError(f"{where}: redirects to another address ({text}); give the final address as --endpoint")
        if status in _RETRIED or status >= 500:
            after = retry_after(response.headers)
            if after is not None and after > LONGEST_RETRY_AFTER:
                return JudgeStopError(f"{where}: asks to wait {after:,.0f} s; repeat the command then to resume")
            return TryAgainError(text, after=after)
        if first:
            return JudgeStopError(f"{where}: refuses the first request ({text}); check --model and --endpoint")
        return CallFailedError(text)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # no proxy and no .netrc: images and key go to the endpoint alone
            session.trust_env = False
        return session


class TryAgainError(Exception):
    """The request may succeed later."""

    def __init__(self, reason: str, after: float | None = None, is_transport: bool = False) -> None:
        super().__init__(reason)
        self.after, self.is_transport = after, is_transport

    def delay(self, number: int) -> float:
        """Return how many seconds to wait after request `number`."""
        if self.after is not None and self.after > 0:
            return self.after
        # spread over the last quarter, so that threads do not come back together
        return float(min(FIRST_DELAY * 2**number, LONGEST_DELAY) * (1 - random.Random().random() / 4))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a server asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            return float(headers["retry-after-ms"]) / 1000
        text = headers.get("retry-after")
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            return float((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _reply(content: bytes, seconds: float, request_id: str | None) -> ChatReply:
    try:
        document = json.loads(content)
        choice = document["choices"][0]
        message = choice["message"]
        usage = document.get("usage") or {}
        text = message.get("content")
        if text is not None and not isinstance(text, str):
            raise TypeError("content is not a text")
        details = {"request_id": request_id, "fingerprint": document.get("system_fingerprint")}
        top = ((choice.get("logprobs") or {}).get("content") or [None])[0]
        if top:
            details["logprobs"] = {item["token"]: item["logprob"] for item in top.get("top_logprobs") or [top]}
        return ChatReply(
            text or "", str(message.get("refusal") or ""), str(choice.get("finish_reason") or ""),
            str(document.get("model") or ""), _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens")),
            seconds, details,
        )  # fmt: skip
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        # a proxy's page or half an answer
        raise TryAgainError(f"the answer is not a chat completion ({first_line(error)})") from None


def _tokens(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _message(content: bytes) -> str:
    """Return the server's own words in one line of 200 characters at most."""
    try:
        document = json.loads(content)
        error = document.get("error", document.get("detail", ""))
        said = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        said = content[:200].decode("utf-8", "replace")
    return " ".join(str(said).split())[:200]


def _transport(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "the connection failed" if isinstance(error, requests.ConnectionError) else type(error).__name__
