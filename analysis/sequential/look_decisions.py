"""Decisions of a stopping study: the looks so far are replayed against the rule, contrast by contrast.

A replay of the logged looks gives the same bounds and decisions every time. Difference and equivalence are two
families, each at the rule's error rate. Futility is non-binding: it closes a contrast but changes no bound.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy import stats

from analysis.sequential.boundaries import boundary
from analysis.sequential.futility import two_sided_conditional_power
from analysis.sequential.stagewise import StoppedEstimate, stopped_estimate
from analysis.sequential.stopping_rule import StoppingRule


class Decision(StrEnum):
    """What is decided about a contrast."""

    OPEN = "open"
    DIFFERENT = "different"
    EQUIVALENT = "equivalent"
    FUTILE = "futile"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class LookStatistic:
    """A contrast at one look, by the fixed test on all its votes so far."""

    time: float
    """Share of the planned total, in (0, 1]."""
    estimate: float
    """Difference from the null value, such as a share of votes minus 0.5."""
    standard_error: float
    p: float
    """Two-sided, of the fixed test."""
    p_equivalence: float | None = None
    """Of the two one-sided tests; None without a margin."""
    too_early: bool = False
    """Whether there were too few clusters to test; such a look spends nothing."""

    @property
    def z(self) -> float:
        """Return the normal quantile of the p-value with the sign of the estimate, which carries the t-test's small samples."""
        return math.copysign(float(stats.norm.isf(max(self.p, 1e-300) / 2)), self.estimate)


@dataclass(frozen=True, slots=True)
class ContrastDecision:
    """What the looks so far decide about one contrast."""

    contrast: str
    decision: Decision
    look: int | None
    """Number of the look that decided, from 0; None while open."""
    bound: float | None
    """Nominal two-sided p-value that the latest tested look had to fall below; None if no look was tested."""
    bounds: tuple[float, ...]
    """The same at every tested look, at the error rate the contrast has in the end."""
    corrected: StoppedEstimate | None
    """Estimate and interval that allow for the looks, once the contrast is closed."""


def decide(
    rule: StoppingRule, history: Mapping[str, Sequence[LookStatistic]], *, ended: bool = False, estimates: bool = True
) -> dict[str, ContrastDecision]:
    """Return the decision on every contrast after the looks so far.

    Args:
        rule: the frozen rule.
        history: by contrast, its statistics at every look so far, the same number of looks for each; those after the look that
            closed a contrast are ignored.
        ended: whether the last look is the study's last, whatever its time; a time of 1 is always the last.
        estimates: whether to correct the estimates of closed contrasts, which takes a fraction of a second each.

    Raises:
        ValueError: contrasts have different numbers of looks, or their times do not ascend.
    """
    counts = {len(looks) for looks in history.values()}
    if len(counts) > 1:
        raise ValueError(f"contrasts have {min(counts)} to {max(counts)} looks; every look covers all contrasts")
    number = counts.pop() if counts else 0
    replay = _Replay(rule, history)
    for look in range(number):
        last = look == number - 1 and (ended or any(looks[look].time >= 1 for looks in history.values()))
        replay.take(look, last)
    return {contrast: replay.result(contrast, estimates) for contrast in history}


class _Replay:
    """The state of all contrasts while looks are replayed in order."""

    def __init__(self, rule: StoppingRule, history: Mapping[str, Sequence[LookStatistic]]) -> None:
        self._rule = rule
        self._history = history
        self._closed: dict[str, tuple[Decision, int]] = {}
        self._tested: dict[str, list[int]] = {contrast: [] for contrast in history}
        self._final: set[str] = set()
        share = rule.alpha / max(len(history), 1)
        self._difference = dict.fromkeys(history, share)
        self._equivalence = dict.fromkeys(history, share)

    def take(self, look: int, last: bool) -> None:
        """Test the open contrasts at one look and close those that are decided."""
        for contrast in self._open():
            statistic = self._history[contrast][look]
            if not statistic.too_early:
                self._tested[contrast].append(look)
            if last:
                self._final.add(contrast)
        self._reject(look, Decision.DIFFERENT, self._difference)
        if self._rule.margin is not None:
            self._reject(look, Decision.EQUIVALENT, self._equivalence)
        for contrast in self._open():
            if last:
                self._closed[contrast] = (Decision.INCONCLUSIVE, look)
            elif self._futile(contrast, look):
                self._closed[contrast] = (Decision.FUTILE, look)

    def _open(self) -> list[str]:
        return [contrast for contrast in self._history if contrast not in self._closed]

    def _reject(self, look: int, decision: Decision, levels: dict[str, float]) -> None:
        """Close contrasts that cross their bound, until no freed error rate lets another one cross."""
        while True:
            crossing = [contrast for contrast in self._open() if self._crosses(contrast, look, decision, levels[contrast])]
            if not crossing:
                return
            self._closed[crossing[0]] = (decision, look)
            still_open = self._open()
            if self._rule.correction == "holm" and still_open:
                for contrast in still_open:
                    levels[contrast] += levels[crossing[0]] / len(still_open)

    def _crosses(self, contrast: str, look: int, decision: Decision, level: float) -> bool:
        if not self._tested[contrast] or self._tested[contrast][-1] != look:
            return False
        statistic = self._history[contrast][look]
        if decision is Decision.DIFFERENT:
            return statistic.p < self._bounds(contrast, level)[-1]
        if statistic.p_equivalence is None:
            return False
        # each side is tested at its own one-sided rate, which a two-sided bound at twice the rate holds
        return statistic.p_equivalence < self._bounds(contrast, 2 * level)[-1] / 2

    def _bounds(self, contrast: str, level: float) -> tuple[float, ...]:
        times = [self._history[contrast][look].time for look in self._tested[contrast]]
        return boundary(self._rule.bound, times, level, final=contrast in self._final).p

    def _futile(self, contrast: str, look: int) -> bool:
        effect = self._rule.futility_effect
        statistic = self._history[contrast][look]
        if effect is None or statistic.too_early or statistic.time >= 1 or statistic.standard_error <= 0:
            return False
        information = statistic.standard_error**-2
        bound = float(stats.norm.isf(self._difference[contrast] / 2))
        power = two_sided_conditional_power(statistic.z, information, information / statistic.time, effect, bound)
        return power < self._rule.futility_power

    def result(self, contrast: str, estimates: bool) -> ContrastDecision:
        """Return what the looks decide about a contrast."""
        decision, look = self._closed.get(contrast, (Decision.OPEN, None))
        tested = self._tested[contrast]
        bounds = self._bounds(contrast, self._difference[contrast]) if tested else ()
        corrected = self._corrected(contrast, bounds) if estimates and look is not None and tested else None
        return ContrastDecision(contrast, decision, look, bounds[-1] if bounds else None, bounds, corrected)

    def _corrected(self, contrast: str, bounds: tuple[float, ...]) -> StoppedEstimate | None:
        looks = [self._history[contrast][look] for look in self._tested[contrast]]
        last = looks[-1]
        if last.standard_error <= 0:
            return None
        # scaled so that estimate and statistic of the last look agree, the t-test's z being the statistic
        scale = (last.z / last.estimate) ** 2 if last.estimate else last.standard_error**-2
        information = [scale * look.time / last.time for look in looks]
        earlier = [float(stats.norm.isf(max(bound, 1e-300) / 2)) for bound in bounds[:-1]]
        return stopped_estimate(information, earlier, last.z)
