"""Failed and ended logins of the dashboard, in one file that all server processes of a study share."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_PAUSE = 60.0
# Oldest entries are dropped first.
_MOST = 1000


@dataclass
class LoginState:
    """Failures by visitor as (number, time from which the next guess is checked), and ended sessions with their expiry."""

    failures: dict[str, tuple[int, float]] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)


class LoginLog:
    """Counts failed logins per visitor, with exponential back-off, and remembers ended sessions."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def may_try(self, visitor: str) -> bool:
        """Return whether a guess of this visitor is checked now; no one else's failures count."""
        with self._state() as state:
            _, until = state.failures.get(visitor, (0, 0.0))
        # a clock that was set back closes the door no longer than the longest pause
        return not 0 < until - time.time() <= LONGEST_PAUSE

    def record(self, visitor: str, is_right: bool) -> None:
        """Record the result of a guess."""
        with self._state(write=True) as state:
            count = state.failures.pop(visitor, (0, 0.0))[0] + 1
            if not is_right:
                state.failures[visitor] = count, time.time() + min(LONGEST_PAUSE, 2.0 ** (count - 1))

    def end(self, session: str, expires_at: float) -> None:
        """End a session for all processes."""
        with self._state(write=True) as state:
            state.ended = {name: until for name, until in state.ended.items() if until > time.time()}
            state.ended[session] = expires_at

    def has_ended(self, session: str) -> bool:
        """Return whether a session was ended."""
        with self._state() as state:
            return session in state.ended

    @contextmanager
    def _state(self, write: bool = False) -> Iterator[LoginState]:
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            state = _parse(stream.read())
            yield state
            if write:
                failures = dict(list(state.failures.items())[-_MOST:])
                stream.seek(0)
                stream.truncate()
                json.dump({"failures": failures, "ended": dict(list(state.ended.items())[-_MOST:])}, stream)


def _parse(text: str) -> LoginState:
    """Return the state in a file; a damaged or empty one counts as empty."""
    try:
        content: dict[str, Any] = json.loads(text)
        failures = {str(name): (int(count), float(until)) for name, (count, until) in content["failures"].items()}
        return LoginState(failures, {str(name): float(until) for name, until in content["ended"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return LoginState()
