"""What an equivalence margin is a share of."""

from enum import StrEnum


class MarginScale(StrEnum):
    """What a margin is a difference of."""

    VOTES = "votes"
    OUTCOMES = "outcomes"
