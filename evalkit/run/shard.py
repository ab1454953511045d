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
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard {text}: is not a part; give I/N with 1 <= I <= N, such as 2/3")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, cases: Sequence[Item]) -> Sequence[Item]:
        """Return this shard's cases."""
        return cases[self.number - 1 :: self.count]
