"""The `[stopping]` table of a study: when it looks, at which bound, and for what a contrast is closed."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from analysis.sequential.boundaries import check_times
from analysis.sequential.spending import Bound
from evalkit.run.file_record import Name, Record

DEFAULT_LOOKS = (0.2, 0.4, 0.6, 0.8, 1.0)


class StoppingRule(Record):
    """What is decided before the first judgment; nothing here depends on an estimate."""

    looks: tuple[float, ...] = DEFAULT_LOOKS
    """Shares of the planned total, ascending; the last is 1."""
    clock: Literal["judgments", "participants"] = "judgments"
    """What the shares are of. Estimated standard errors are not a clock: they would raise the error rate."""
    bound: Bound = Bound.HAYBITTLE_PETO
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Familywise, two-sided, over all contrasts and looks."""
    correction: Literal["holm", "bonferroni"] = "holm"
    """`holm` passes the share of a rejected contrast to those that are open; `bonferroni` leaves it unused."""
    pairs: tuple[tuple[Name, Name], ...] = ()
    """Contrasts that count; empty: all pairs of arms."""
    question: Name = "overall"
    margin: float | None = Field(default=None, gt=0, lt=0.5)
    """Of votes; a contrast shown to be within it is closed as equivalent. Without it equivalence closes nothing."""
    futility_effect: float | None = Field(default=None, gt=0, lt=0.5)
    """Difference from 50 % of votes worth finding; a contrast unlikely to show it is closed. Without it nothing is futile."""
    futility_power: float = Field(default=0.10, gt=0, lt=1)
    """Conditional power below which a contrast is futile."""
    least_clusters: int = Field(default=5, ge=2)
    """Participants, and concepts, that a look needs; before that it is too early and spends nothing."""

    @field_validator("looks")
    @classmethod
    def _ascending(cls, looks: tuple[float, ...]) -> tuple[float, ...]:
        checked = check_times(looks)
        if checked[-1] != 1:
            raise ValueError(f"the last look is at {checked[-1]:g}; end with 1.0, the planned total")
        return checked

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        unordered = [frozenset(pair) for pair in self.pairs]
        if any(len(pair) == 1 for pair in unordered):
            raise ValueError("pairs: an arm is compared with itself")
        if len(set(unordered)) < len(unordered):
            raise ValueError("pairs: two of the same arms occur twice")
        return self
