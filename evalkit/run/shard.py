"""Parts of a run that machines share: every N-th case."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from evalkit.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count` of a run's cases: every `count`-th case, from the `number`-th on."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that `text` names, such as 2/3; raise a UserError if it names none."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard {text}: give I/N with 1 <= I <= N, such as 2/3 for the second of three")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, cases: Sequence[Item]) -> Sequence[Item]:
        """Return this shard's cases."""
        return cases[self.number - 1 :: self.count]
