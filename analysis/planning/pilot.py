"""Spread of votes estimated from a pilot study, for the next study's plan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.database_rows import RunData
from analysis.grouping import votes_of
from analysis.planning.precision import Spread
from analysis.results import Result
from analysis.votes.vote_models import VoteModel, vote_model
from evalkit.errors import UserError


@dataclass(frozen=True, slots=True)
class Pilot(Result):
    """The spread found in a pilot; `notes` name what it could not estimate and took from the guess."""

    votes: int
    spread: Spread
    notes: tuple[str, ...]

    def records(self) -> list[dict[str, object]]:
        """Return one row: votes, the four standard deviations, notes."""
        return [{"votes": self.votes, **self.spread.records()[0], "notes": self.notes}]


def spread_of(data: RunData, guess: Spread | None = None) -> Pilot:
    """Return the standard deviations of the mixed model (`analysis.votes.vote_models`): root mean squares over pairs of arms.

    What the pilot's design can't tell keeps the guess: concepts if they are fewer than five, participants if there is one,
    comparisons if each has one vote. Where every case has one seed, what pairs do is part of what comparisons do.
    """
    together = votes_of(data)
    if not together:
        raise UserError(f"pilot {data.name}: there are no judgments; collect some first, or plan from assumed values")
    pilot = spread_of_models([vote_model(votes) for votes in together], guess)
    return replace(pilot, votes=sum(len(votes.choice) for votes in together))


def spread_of_models(models: Sequence[VoteModel], guess: Spread | None = None) -> Pilot:
    """Return the spread of mixed models that were fitted already; as `spread_of`."""
    guess = Spread() if guess is None else guess
    fits = [model.fit for model in models if model.fit is not None]
    notes = [model.note for model in models if model.note]
    deviations: dict[str, float] = {}
    for name in ("comparison", "concept", "pair", "participant"):
        squares = [
            component.deviation**2
            for fit in fits
            for component in fit.components
            if component.name == name or (name == "pair" and component.name == "concept set")
        ]
        if squares:
            deviations[name] = math.sqrt(sum(squares) / len(squares))
        elif name == "pair" and "comparison" in deviations:
            deviations[name] = 0.0
            notes.append("The pilot can't separate pairs from comparisons, so what both do counts as the comparisons'.")
        else:
            deviations[name] = getattr(guess, name)
            notes.append(
                f"The pilot does not estimate the spread of {name}s; the assumed value of {deviations[name]:g} logits is kept."
            )
    return Pilot(sum(fit.rows for fit in fits), Spread(**deviations), tuple(notes))
