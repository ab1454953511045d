"""Applies a merge to a model and removes it again: folded into the weights, or as hooks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from generation.merge import on_calibration, on_outputs, on_schedule, on_steps, on_weights
from generation.merge import on_input_columns as on_columns
from generation.merge.method import Kind, Needs
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import Change, Observer, Setup, WeightedLora, check_forms, folded, scheduled
from generation.pipeline import Pipeline

# Implementation of calibrated merges, by what they need.
CALIBRATED: Mapping[Needs, Callable[[Setup, Pipeline, Sequence[WeightedLora], SamplingState], Mapping[str, Change]]] = {
    "inputs": on_calibration.changes,
    "hidden": on_calibration.changes,
    "columns": on_columns.changes,
}


def _calibrated(setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState) -> Mapping[str, Change]:
    return CALIBRATED[setup.method.needs](setup, pipeline, loras, state)


# By kind: the changes of weights that are the merge, or None if these settings cannot be folded.
CHANGES: Mapping[Kind, Callable[[Setup, Pipeline, Sequence[WeightedLora], SamplingState], Mapping[str, Change] | None]] = {
    "weights": on_weights.changes,
    "calibrated": _calibrated,
    "outputs": on_outputs.changes,
}
# By kind: the implementation by hooks, for merges that cannot be folded.
HOOKED: Mapping[
    Kind, Callable[[Setup, Pipeline, Sequence[WeightedLora], SamplingState, Observer | None], AbstractContextManager[None]]
]
HOOKED = {"outputs": on_outputs.hooked, "steps": on_steps.hooked}


@dataclass(frozen=True)
class Merge(Setup):
    """A method with its settings and the seed of its masks, ready to be applied to a model."""

    def changes(self, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState) -> Mapping[str, Change] | None:
        """Return the change of each layer's weight that is this merge, or None if the merge changes while sampling."""
        check_forms(self, loras)
        on_schedule.check_schedule(self, loras)
        if scheduled(loras):
            return None
        made = CHANGES.get(self.method.acts_on)
        return None if made is None else made(self, pipeline, loras, state)

    @contextmanager
    def applied(
        self, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState, observe: Observer | None = None
    ) -> Iterator[None]:
        """Apply the merge of `loras` to the model while a block runs; restore every weight bit by bit."""
        changes = self.changes(pipeline, loras, state)
        if changes is None and self.method.acts_on == "weights":
            with on_schedule.refolded(self, pipeline, loras, state):
                yield
            return
        if changes is None:
            with HOOKED[self.method.acts_on](self, pipeline, loras, state, observe):
                yield
            return
        with folded(pipeline, changes) as state.folded:
            try:
                yield
            finally:
                state.folded = []
