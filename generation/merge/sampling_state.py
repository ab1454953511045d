"""State of one sampling run: which image each batch row belongs to, and how often each component was called."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from generation.batch_invariant import batch_invariant
from generation.families import family_of
from generation.merge.dropout_masks import MaskOptions, row_words
from generation.pipeline import Pipeline, components
from generation.seeds import derived


class SamplingState:
    """Counts the forward passes of one batch of images and makes its images batch-invariant (`generation.batch_invariant`).

    The family of the pipeline states which guidance half the rows of a call of the denoiser belong to. A text encoder is called
    once for the prompts, then once for the negative prompts, with one row per image each time.
    """

    def __init__(self, pipeline: Pipeline, steps: int = 1) -> None:
        self.images: tuple[int, ...] = ()
        self.batches = 0
        # requested denoising steps
        self.steps = steps
        self.family = family_of(pipeline)
        self._scheduler = pipeline.scheduler
        # denoiser calls per step: 2 for second-order samplers
        self.order: int = getattr(pipeline.scheduler, "order", 1)
        # while true, hooks add nothing
        self.bare = False
        # weights with the merge folded in, and their values without it
        self.folded: list[tuple[Tensor, Tensor]] = []
        self._calls: dict[str, int] = {}
        # finished steps of the scheduler, and calls of the denoiser since the last one
        self._finished, self._position = 0, -1
        with ExitStack() as stack:
            stack.enter_context(batch_invariant(pipeline))
            for name, part in components(pipeline).items():
                stack.callback(part.register_forward_pre_hook(self._counter(name)).remove)
            stack.enter_context(self._scheduler_counted())
            self._stack = stack.pop_all()

    def begin(self, images: Sequence[int]) -> None:
        """Start a batch of images, identified by their keys; calls count from 0."""
        self.images = tuple(images)
        self.batches += 1
        self._calls = {}
        self._finished, self._position = 0, -1

    def close(self) -> None:
        """Remove the counters from the pipeline."""
        self._stack.close()

    @contextmanager
    def without_merge(self) -> Iterator[None]:
        """Disable the merge while a block runs: folded weights are swapped with their originals, nothing is computed."""
        self._swap()
        self.bare = True
        try:
            yield
        finally:
            self.bare = False
            self._swap()

    def _swap(self) -> None:
        for weight, other in self.folded:
            weight.data, other.data = other.data, weight.data

    def call(self, component: str) -> int:
        """Return the index of the current call of a component in this batch, from 0."""
        return self._calls.get(component, 0)

    def evaluation(self) -> int:
        """Return the index of the current evaluation of the denoiser, from 0; the calls of both halves are one evaluation."""
        return self._finished if self.family.guidance_calls == "sequential" else self.call(self.family.denoiser)

    def step(self) -> int:
        """Return the index of the current denoising step, from 0.

        Second-order samplers, and those with a longer start, call the denoiser more often than there are steps; `timesteps`
        has one entry per call.
        """
        return min(self.steps - 1, self.evaluation() * self.steps // len(self._scheduler.timesteps))

    def rows(self, component: str, count: int) -> list[tuple[int, int]]:
        """Return image key and half (0 unguided, 1 guided) of each of a call's `count` rows."""
        images = len(self.images)
        if component == self.family.denoiser:
            halves = self.family.halves(count, images, max(0, self._position))
        else:
            halves = (1,) if self.call(component) == 0 else (0,)
            if count != images:
                raise ValueError(f"{component} was called with {count} rows for a batch of {images} images")
        return [(image, half) for half in halves for image in self.images]

    def _counter(self, name: str) -> Any:  # noqa: ANN401 - a torch hook
        def count(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._calls[name] = self._calls.get(name, -1) + 1
            if name == self.family.denoiser:
                self._position += 1

        return count

    @contextmanager
    def _scheduler_counted(self) -> Iterator[None]:
        """Count the finished steps of the scheduler while a block runs."""
        scheduler = self._scheduler
        step, hidden = scheduler.step, vars(scheduler).get("step")

        # diffusers passes a generator only if the signature has one
        @wraps(step)
        def counted(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - the scheduler's own signature
            result = step(*args, **named)
            self._finished, self._position = self._finished + 1, -1
            return result

        scheduler.step = counted
        try:
            yield
        finally:
            # the counter is an attribute of the scheduler that hides its method, or the counter of an enclosing state
            # another state that began later keeps its own counter
            if vars(scheduler).get("step") is counted:
                del scheduler.step
                if hidden is not None:
                    scheduler.step = hidden


@dataclass
class MaskSource:
    """Row words of masks under `options`, cached during a call since most layers share them."""

    seed: int
    options: MaskOptions
    state: SamplingState

    def __post_init__(self) -> None:
        self._words: dict[tuple[str, int, int], Tensor] = {}
        self._moment: tuple[int, str, int] | None = None

    def words(self, component: str, rows: int, tokens: int, device: torch.device) -> Tensor:
        """Return one int32 word per row and token of a call, [rows * tokens]."""
        moment = (self.state.batches, component, self.state.call(component))
        if moment != self._moment:
            self._moment, self._words = moment, {}
        key = (component, rows, tokens)
        if key not in self._words:
            keys = [self._key(component, image, half) for image, half in self.state.rows(component, rows)]
            self._words[key] = row_words(keys, tokens, device)
        return self._words[key]

    def run_words(self, device: torch.device) -> Tensor:
        """Return the one word of masks that are fixed for the whole run, [1]."""
        return row_words([self._key(self.state.family.denoiser, 0, 0)], 1, device)

    def _key(self, component: str, image: int, half: int) -> int:
        """Return one number that identifies what a row's masks depend on."""
        # the two calls of a text encoder are the two halves, not two steps
        call = self.state.evaluation() if component == self.state.family.denoiser else 0
        moment = {"forward": call, "step": call // self.state.order}.get(self.options.refresh, 0)
        return derived(
            "row",
            self.seed,
            image if self.options.refresh != "run" else 0,
            half if self.options.cfg == "independent" else 0,
            moment,
        )
