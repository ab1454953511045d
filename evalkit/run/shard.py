"""Parts of a run that machines share: every N-th case."""

import os
import re
from collections.abc import Mapping, Sequence
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
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> "Shard":
        """Return the shard that `text` names, such as 2/3, or the scheduler's for `auto` and `auto/N`.

        Raises:
            UserError: the text names no shard, or no scheduler of this process numbers it.
        """
        if re.fullmatch(r"auto(/\d{1,6})?", text):
            return _scheduled(text, environment)
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard {text}: is not a part; give I/N with 1 <= I <= N, such as 2/3, or auto")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, cases: Sequence[Item]) -> Sequence[Item]:
        """Return this shard's cases."""
        return cases[self.number - 1 :: self.count]


def _scheduled(text: str, environment: Mapping[str, str]) -> Shard:
    """Return the shard by the variables that SLURM arrays, torchrun and Kubernetes' indexed jobs set."""

    def number(name: str, default: int | None = None) -> int:
        value = environment.get(name, "" if default is None else str(default))
        if not (value.isascii() and value.isdigit()):
            raise UserError(f"--shard {text}: ${name} is {value!r}, not a whole number; give --shard I/N")
        return int(value)

    given = int(text.partition("/")[2] or 0)
    if "SLURM_ARRAY_TASK_ID" in environment:
        step = max(1, number("SLURM_ARRAY_TASK_STEP", 1))
        index = (number("SLURM_ARRAY_TASK_ID") - number("SLURM_ARRAY_TASK_MIN", 0)) // step
        count = given or number("SLURM_ARRAY_TASK_COUNT")
    elif "WORLD_SIZE" in environment and "RANK" in environment:
        index, count = number("RANK"), given or number("WORLD_SIZE")
    elif "JOB_COMPLETION_INDEX" in environment:
        index, count = number("JOB_COMPLETION_INDEX"), given
        if not count:
            raise UserError(f"--shard {text}: Kubernetes tells a job its index alone; give auto/N, N the job's completions")
    else:
        raise UserError(
            f"--shard {text}: no scheduler numbers this process (no $SLURM_ARRAY_TASK_ID, $RANK or $JOB_COMPLETION_INDEX); "
            "give --shard I/N"
        )
    if not 0 <= index < count:
        raise UserError(f"--shard {text}: the scheduler's index {index} is not below its count {count}; give --shard I/N")
    return Shard(index + 1, count)
