"""LoRAs' outputs while sampling: overlap of two LoRAs in a layer, their strength, and crosstalk."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from generation.batch_invariant import lora_output
from generation.experiment import ArmSpec, CaseSpec
from generation.families import in_denoiser
from generation.lora.factors import Factors
from generation.merge.apply import HOOKED
from generation.merge.setup import Observer, WeightedLora, layers_of, module_of
from generation.sampler import ImageRequest, Sampler


@dataclass(frozen=True)
class OutputOverlap:
    """Two LoRAs' outputs in a layer at a step: |inner product| per token, mean and largest, and their cosine.

    Outputs are masked and scaled as the arm adds them. An arm of fixed weights adds none separately, so they are each LoRA's
    own.
    """

    arm: str
    layer: str
    step: int
    first: str
    second: str
    mean_inner: float
    max_inner: float
    cosine: float


@dataclass(frozen=True)
class OutputStrength:
    """Norms of outputs in a layer at a step, over the norm of what the layer gives without LoRAs.

    `before` is that of the LoRAs' exact sum, `after` that of what the arm adds; `together` is ||sum_j y_j|| / sum_j ||y_j||,
    1 if the LoRAs push the same way and 0 if they cancel.
    """

    arm: str
    layer: str
    step: int
    before: float
    after: float
    together: float


@dataclass(frozen=True)
class InputCrosstalk:
    """What LoRA j does to a layer's inputs X_i while LoRA i alone draws its concept, over all steps.

    `crosstalk` is ||Delta_j X_i|| / ||Delta_i X_i||, `strength` ||Delta_j X_i|| over the norm of what the layer gives.
    """

    layer: str
    acting: str
    drawn: str
    crosstalk: float
    strength: float


def output_overlaps(sampler: Sampler, arm: ArmSpec, case: CaseSpec) -> tuple[list[OutputOverlap], list[OutputStrength]]:
    """Sample a case's first seed with an arm; return overlap and strength of its LoRAs' outputs per layer and step.

    Every kind of merge is applied by hooks here, so that each layer's output without it is known. Only sums are stored.
    """
    layers = _named(sampler, case)
    sums: dict[tuple[str, int], _Sums] = defaultdict(_Sums)
    plain: dict[str, Tensor] = {}

    def sums_of(layer: str) -> _Sums:
        return sums[layer, sampler.state.step() if in_denoiser(layer) else 0]

    def open_(layer: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        plain[layer] = output.clone()

    def look(layer: str, outputs: list[Tensor], gains: list[Tensor]) -> None:
        sums_of(layer).add([name for name, _ in layers[layer]], outputs, gains)

    def close(layer: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        before = plain.pop(layer)
        sums_of(layer).plain += _square(before)
        sums_of(layer).merged += _square(output - before)

    with ExitStack() as stack:
        _watch(stack, sampler, layers, open_)
        stack.enter_context(_hooked(sampler, arm, case.concepts, look))
        _watch(stack, sampler, layers, close)
        sampler.generate([ImageRequest(case, case.seeds[0])])
    overlaps = [
        OutputOverlap(arm.label, *key, *names, *numbers) for key, total in sums.items() for names, numbers in total.met()
    ]
    return overlaps, [OutputStrength(arm.label, *key, *total.strengths()) for key, total in sums.items()]


def input_crosstalk(sampler: Sampler, case: CaseSpec) -> list[InputCrosstalk]:
    """Draw each concept of a case alone, prompted by its words; return what the others' LoRAs would do to the same inputs.

    Orthogonal Adaptation (Po et al. 2024, arXiv 2312.02432) calls ||Delta_j X_i|| crosstalk and asks that it vanish.
    """
    layers, rows = _named(sampler, case), []
    plain: dict[str, float] = defaultdict(float)
    squares: dict[tuple[str, str], float] = defaultdict(float)

    def look(layer: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        plain[layer] += _square(output)
        for name, weighted in layers[layer]:
            squares[layer, name] += _square(_output(module, x, weighted.part(layer, x.device)))

    for drawn in case.concepts:
        plain.clear()
        squares.clear()
        words = sampler.experiment.concept(drawn).words
        alone = case.model_copy(update={"concepts": (drawn,), "prompt": words})
        with ExitStack() as stack:
            _watch(stack, sampler, layers, look)
            stack.enter_context(sampler.merged(ArmSpec(label="alone", method="direct"), alone.concepts))
            sampler.generate([ImageRequest(alone, alone.seeds[0])])
        for (layer, acting), square in squares.items():
            if acting != drawn and squares.get((layer, drawn)):
                ratios = _ratio(square, squares[layer, drawn]), _ratio(square, plain[layer])
                rows.append(InputCrosstalk(layer, acting, drawn, *ratios))
    return rows


@dataclass
class _Sums:
    """What is summed over the tokens of one layer at one step."""

    plain: float = 0.0
    merged: float = 0.0
    exact: float = 0.0
    tokens: int = 0
    squares: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gained: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    inner: dict[tuple[str, str], tuple[float, float, float]] = field(default_factory=dict)

    def add(self, names: Sequence[str], outputs: Sequence[Tensor], gains: Sequence[Tensor]) -> None:
        """Add some tokens: each LoRA's outputs [tokens, channels], and what they are multiplied with."""
        self.tokens += outputs[0].shape[0]
        self.exact += _square(torch.stack(list(outputs)).sum(0))
        given = {name: y.float() * gain.float() for name, y, gain in zip(names, outputs, gains, strict=True)}
        for name, y in zip(names, outputs, strict=True):
            self.squares[name] += _square(y)
            self.gained[name] += _square(given[name])
        for pair in combinations(names, 2):
            products = (given[pair[0]] * given[pair[1]]).sum(1)
            dot, size, most = self.inner.get(pair, (0.0, 0.0, 0.0))
            sizes = products.abs()
            self.inner[pair] = dot + float(products.sum()), size + float(sizes.sum()), max(most, float(sizes.max()))

    def met(self) -> Iterator[tuple[tuple[str, str], tuple[float, float, float]]]:
        """Give, for every two LoRAs, mean and largest |inner product| per token, and the cosine over all tokens."""
        for (first, second), (dot, size, most) in self.inner.items():
            norms = (self.gained[first] * self.gained[second]) ** 0.5
            yield (first, second), (size / self.tokens, most, dot / norms if norms else 0.0)

    def strengths(self) -> tuple[float, float, float]:
        """Return `before`, `after` and `together`."""
        apart = sum(square**0.5 for square in self.squares.values())
        return _ratio(self.exact, self.plain), _ratio(self.merged, self.plain), self.exact**0.5 / apart if apart else 0.0


class _Look(Protocol):
    def __call__(self, layer: str, module: nn.Module, x: Tensor, output: Tensor) -> None: ...


def _named(sampler: Sampler, case: CaseSpec) -> Mapping[str, list[tuple[str, WeightedLora]]]:
    """Return the LoRAs of every layer, each with its concept's name."""
    by_layer = layers_of(sampler.weighted(case.concepts))
    return {
        layer: [(case.concepts[weighted.place], weighted) for weighted in layer_loras]
        for layer, layer_loras in by_layer.items()
    }


def _watch(stack: ExitStack, sampler: Sampler, layers: Mapping[str, object], look: _Look) -> None:
    """Show `look` every call of the layers, as it is after the hooks that are there already."""
    for layer in layers:

        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor, layer: str = layer) -> None:
            look(layer, module, args[0], output)

        stack.callback(module_of(sampler.pipeline, layer).register_forward_hook(hook).remove)


@contextmanager
def _hooked(sampler: Sampler, arm: ArmSpec, concepts: Sequence[str], observe: Observer) -> Iterator[None]:
    """Apply an arm's merge by hooks while a block runs, even if it could be folded."""
    merge, loras = sampler.merge(arm), sampler.weighted(concepts, arm)
    if merge.method.acts_on in HOOKED:
        with HOOKED[merge.method.acts_on](merge, sampler.pipeline, loras, sampler.state, observe):
            yield
        return
    changes = merge.changes(sampler.pipeline, loras, sampler.state) or {}
    with ExitStack() as stack:
        for layer, layer_loras in layers_of(loras).items():
            module = module_of(sampler.pipeline, layer)
            change = changes[layer](module.weight.device) if layer in changes else None
            parts = [weighted.part(layer, module.weight.device) for weighted in layer_loras]

            stack.callback(module.register_forward_hook(_ObservingHook(layer, parts, change, observe)).remove)
        yield


@dataclass(frozen=True)
class _ObservingHook:
    """Reports the output of each LoRA, and adds that of the merge."""

    layer: str
    parts: Sequence[Factors]
    change: Factors | Tensor | None
    observe: Observer

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        channels = 1 if isinstance(module, nn.Conv2d) else -1
        outputs = [_output(module, args[0], part).movedim(channels, -1).flatten(0, -2) for part in self.parts]
        self.observe(self.layer, outputs, [y.new_ones(()) for y in outputs])
        return output if self.change is None else output + _output(module, args[0], self.change).to(output)


def _output(module: nn.Module, x: Tensor, change: Factors | Tensor) -> Tensor:
    """Return what a change of a layer's weight adds to its output, in float32."""
    x = x.float()
    if isinstance(change, Factors):
        return lora_output(module, x, change.down, change.up)
    if isinstance(module, nn.Conv2d):
        padding: Any = module.padding
        return functional.conv2d(x, change, None, module.stride, padding, module.dilation, module.groups)
    return functional.linear(x, change)


def _square(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.float())) ** 2


def _ratio(square: float, of: float) -> float:
    """Return the ratio of two norms from their squares, 0 if the denominator is 0."""
    return (square / of) ** 0.5 if of else 0.0
