"""The limit of open files, which is a limit of open pages."""

import logging
import resource
import time

from study_app.conduct.doctor import FILES_PER_PAGE

_RESERVED = 100
_WANTED = 65_536
_SECONDS_BETWEEN = 60.0


def raise_limit() -> int:
    """Raise the soft limit of open files as far as allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _WANTED if soft == resource.RLIM_INFINITY else soft


def most_pages(files: int) -> int:
    """Return how many pages can be open with so many files."""
    return max(1, (files - _RESERVED) // FILES_PER_PAGE)


class AcceptErrorsOnce(logging.Filter):
    """Lets one report of an exhausted limit through per minute; the event loop makes thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._latest = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        if "accept()" not in record.getMessage():
            return True
        now = time.monotonic()
        is_first = now - self._latest >= _SECONDS_BETWEEN
        if is_first:
            self._latest = now
        return is_first
