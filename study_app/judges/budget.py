"""Budget of a judge: caps on requests, tokens and money that are never passed, and the price of what is left."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from evalkit.errors import UserError, unknown

KINDS = ("calls", "tokens", "money")
_FACTORS = {"k": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Prices:
    """Price per million tokens, in any currency; 0 for a local server."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the price of so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


def parse_budget(options: Iterable[str]) -> dict[str, float]:
    """Return the caps of options such as `calls=500`, `tokens=2M`, `money=3.50`.

    >>> parse_budget(["calls=500", "tokens=2M"])
    {'calls': 500.0, 'tokens': 2000000.0}
    """
    caps: dict[str, float] = {}
    for option in options:
        kind, _, text = option.partition("=")
        if kind not in KINDS:
            raise unknown("--budget", kind, KINDS)
        factor = _FACTORS.get(text[-1:], 1.0)
        try:
            value = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise UserError(f"--budget {option}: is not a positive number; write for example {kind}=500")
        if kind in caps:
            raise UserError(f"--budget {kind}: is given twice; give each cap once")
        caps[kind] = value
    return caps


@dataclass
class Spending:
    """What a judge has spent, and what its requests in flight may cost at most; safe to use from several threads."""

    caps: dict[str, float]
    prices: Prices
    completion_cap: int
    """The most tokens one answer may have."""
    calls: int = 0
    prompt_tokens: float = 0
    completion_tokens: float = 0
    largest_prompt: float = 0
    reserved_calls: int = 0
    reserved_prompt: float = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def money(self) -> float:
        """Return the price of what was spent."""
        return self.prices.of(self.prompt_tokens, self.completion_tokens)

    def reserve(self, estimate: float) -> float | None:
        """Return the prompt tokens reserved for one more request, or None if it could pass a cap."""
        with self._lock:
            prompt = max(estimate, self.largest_prompt)
            calls = self.reserved_calls + 1
            prompts, completions = self.reserved_prompt + prompt, calls * self.completion_cap
            least = {
                "calls": self.calls + calls,
                "tokens": self.prompt_tokens + self.completion_tokens + prompts + completions,
                "money": self.money + self.prices.of(prompts, completions),
            }
            if any(least[kind] > cap * (1 + 1e-9) for kind, cap in self.caps.items()):
                return None
            self.reserved_calls, self.reserved_prompt = calls, prompts
            return prompt

    def settle(self, reserved: float, prompt: int | None, completion: int | None) -> None:
        """Replace one reservation by what was billed; a server that reports nothing is taken at the reservation."""
        with self._lock:
            self.reserved_calls -= 1
            self.reserved_prompt -= reserved
            self.calls += 1
            self.prompt_tokens += reserved if prompt is None else prompt
            self.completion_tokens += self.completion_cap if completion is None else completion
            self.largest_prompt = max(self.largest_prompt, prompt or 0)
