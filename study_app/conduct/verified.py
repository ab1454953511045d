"""Result of verifying an export."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verified:
    """Content of a verified export.

    `chain` is the hash of the last event, of "locked" once the study was locked. `erasures` counts the participants erased
    after the lock, `erasures_chain` is the hash of their chain. `limits` states what the log of an older version cannot prove.
    """

    judgments: int
    events: int
    chain: str
    erasures: int = 0
    erasures_chain: str | None = None
    limits: tuple[str, ...] = ()
