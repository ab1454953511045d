"""Puts a merge into the model and takes it out again: folded into the weights, or as hooks beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from generation.lora import Factors, Lora
from generation.merge.drawing import Drawing, MaskSource
from generation.merge.layer import Layer
from generation.merge.masks import Draws, channel_words
from generation.merge.method import MergeMethod
from generation.merge.rates import expand
from generation.pipeline import Pipeline, components
from generation.steady import convolve, linear

# Gets a layer, its LoRAs' outputs, and what each is multiplied with: lists of [rows, channels]; for diagnostics and proofs.
Observer = Callable[[str, list[Tensor], list[Tensor]], None]
# Elements per block of an elementwise pass: on the CPU a block of every operand stays in a core's cache, elsewhere blocks are
# large enough that launching them costs nothing and small enough that masks stay far below the activations.
BLOCK = {"cpu": 1 << 17}
LARGE_BLOCK = 1 << 24


@dataclass(frozen=True)
class Weighted:
    """A LoRA with its weight and its place in the case's list of concepts."""

    lora: Lora
    weight: float
    place: int


@dataclass(frozen=True)
class Merge:
    """A method with its settings and the seed of its masks, ready to be put into a model."""

    method: MergeMethod
    settings: Any
    seed: int
    # what compressing methods report: the share of the exact sum's squared norm that each layer keeps
    energies: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def applied(
        self, pipeline: Pipeline, loras: Sequence[Weighted], drawing: Drawing, observe: Observer | None = None
    ) -> Iterator[None]:
        """Hold the merge of `loras` in the model while a block runs; leave every weight as it was, bit by bit."""
        with APPLY[self.method.acts_on](self, pipeline, loras, drawing, observe):
            yield


def layers_of(loras: Sequence[Weighted]) -> dict[str, list[tuple[Weighted, Factors]]]:
    """Return, for every layer that some LoRA adapts, the LoRAs that do and their scaled factors, in the order of `loras`."""
    names = dict.fromkeys(name for weighted in loras for name in weighted.lora.factors)
    return {
        name: [(weighted, weighted.lora.part(name, weighted.weight)) for weighted in loras if name in weighted.lora.factors]
        for name in sorted(names)
    }


@contextmanager
def folded(pipeline: Pipeline, changes: Mapping[str, Callable[[torch.device], Factors | Tensor]]) -> Iterator[None]:
    """Add a change to the weight of each layer; put copies of the old weights back at the end.

    Adding is done in float32 and rounded once to the weight's own type. Subtracting afterwards would leave rounding behind.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for layer, change in changes.items():
                weight = module_of(pipeline, layer).weight
                kept.append((weight, weight.clone()))
                delta = change(weight.device)
                dense = delta.dense() if isinstance(delta, Factors) else delta
                weight.copy_(weight.float() + dense)
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


def module_of(pipeline: Pipeline, layer: str) -> Any:  # noqa: ANN401 - a Linear or a Conv2d
    """Return the module a layer's name stands for."""
    component, _, name = layer.partition(".")
    return components(pipeline)[component].get_submodule(name)


@contextmanager
def _apply_to_weights(
    merge: Merge, pipeline: Pipeline, loras: Sequence[Weighted], drawing: Drawing, observe: Observer | None
) -> Iterator[None]:
    own = merge.settings.model_dump()
    # a LoRA of weight zero is not there, whatever a method would make of its zeros
    loras = [weighted for weighted in loras if weighted.weight != 0]
    weights = [weighted.weight for weighted in loras]
    adapted = {weighted.place: sorted(weighted.lora.factors) for weighted in loras}

    def change(name: str, parts: list[tuple[Weighted, Factors]], device: torch.device) -> Factors | Tensor:
        layer = Layer(name, merge.seed, weights, [weighted.place for weighted, _ in parts], adapted, merge.energies)
        merged: Factors | Tensor = merge.method.function([_on(part, device) for _, part in parts], layer, **own)
        return merged

    changes = {layer: _bound(change, layer, parts) for layer, parts in layers_of(loras).items()}
    with folded(pipeline, changes):
        yield


@contextmanager
def _apply_to_outputs(
    merge: Merge, pipeline: Pipeline, loras: Sequence[Weighted], drawing: Drawing, observe: Observer | None
) -> Iterator[None]:
    source = MaskSource(merge.seed, merge.settings.resolved, drawing)
    rates = expand(merge.settings.p, len(loras))
    layers = layers_of(loras)
    makers = {
        layer: _Maker(merge.method, layer, tuple(rates[weighted.place] for weighted, _ in parts), source)
        for layer, parts in layers.items()
    }
    if source.options.foldable:

        def change(layer: str, parts: list[tuple[Weighted, Factors]], device: torch.device) -> Factors:
            here = [_on(part, device) for _, part in parts]
            gains = makers[layer].gains(source.run_words(device), here[0].up)
            ups = [part.up * gain[0][:, None] for part, gain in zip(here, gains, strict=True)]
            return Factors(torch.cat([part.down for part in here]), torch.cat(ups, dim=1))

        with folded(pipeline, {layer: _bound(change, layer, parts) for layer, parts in layers.items()}):
            yield
        return
    hooks = []
    try:
        for layer, parts in layers.items():
            module = module_of(pipeline, layer)
            hook = _OutputHook(makers[layer], [part for _, part in parts], module, observe)
            hooks.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in hooks:
            handle.remove()


APPLY = {"weights": _apply_to_weights, "outputs": _apply_to_outputs}


def _bound(
    change: Callable[[str, list[tuple[Weighted, Factors]], torch.device], Factors | Tensor],
    layer: str,
    parts: list[tuple[Weighted, Factors]],
) -> Callable[[torch.device], Factors | Tensor]:
    return lambda device: change(layer, parts, device)


def _on(part: Factors, device: torch.device) -> Factors:
    return Factors(part.down.to(device), part.up.to(device))


class _Maker:
    """Makes what a layer's LoRA outputs are multiplied with."""

    def __init__(self, method: MergeMethod, layer: str, rates: tuple[float, ...], source: MaskSource) -> None:
        self.method, self.layer, self.rates, self.source = method, layer, rates, source
        self.component = layer.partition(".")[0]
        self._channels: list[Tensor] = []

    def gains(self, rows: Tensor, like: Tensor) -> list[Tensor]:
        """Return one tensor per LoRA, [rows, channels], in the type of `like` [channels, ...] or [..., channels]."""
        if not self._channels:
            self._channels = [channel_words(self.layer, like.shape[0], draw, like.device) for draw in range(len(self.rates))]
        merged: list[Tensor] = self.method.function(Draws(rows, self._channels, like.dtype), self.rates)
        return merged


class _OutputHook:
    """Adds the masked outputs of a layer's LoRAs to what the layer gave."""

    def __init__(self, maker: _Maker, parts: list[Factors], module: nn.Module, observe: Observer | None) -> None:
        weight: Tensor = module.weight  # type: ignore[assignment]
        self.maker, self.observe = maker, observe
        self.down = torch.cat([part.down for part in parts]).to(weight)
        self.ups = [part.up.to(weight) for part in parts]
        self.up_rows = torch.cat(self.ups, dim=1).T.contiguous()
        self.ranks = [part.rank for part in parts]
        self.conv = module if isinstance(module, nn.Conv2d) else None
        self.channelwise = maker.source.options.granularity == "channel"

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hidden = self._hidden(args[0])
        rows, tokens = hidden.shape[0], hidden.shape[1]
        target = output if self.conv is None else output.flatten(2).transpose(1, 2).contiguous()
        target = target.reshape(rows, tokens, -1)
        target = (self._per_channel if self.channelwise else self._per_element)(hidden, target)
        if self.conv is None:
            return target.view(output.shape)
        return target.transpose(1, 2).reshape(output.shape)

    def _hidden(self, x: Tensor) -> Tensor:
        """Return all LoRAs' hidden activations side by side, [rows, tokens, sum of ranks]."""
        if self.conv is None:
            return linear(x, self.down).reshape(x.shape[0], -1, self.down.shape[0])
        return convolve(self.conv, x, self.down).flatten(2).transpose(1, 2)

    def _words(self, rows: int, tokens: int, device: torch.device) -> Tensor:
        return self.maker.source.words(self.maker.component, rows, tokens, device)

    def _per_channel(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Mask the rows of `up`, so that one product serves all LoRAs."""
        rows = hidden.shape[0]
        gains = self.maker.gains(self._words(rows, 1, hidden.device), self.ups[0])
        spread = torch.cat([gain[:, None, :].expand(-1, rank, -1) for gain, rank in zip(gains, self.ranks, strict=True)], dim=1)
        if self.observe is not None:
            outputs = [part @ up.T for part, up in zip(torch.split(hidden, self.ranks, dim=2), self.ups, strict=True)]
            spread_out = [gain[:, None].expand_as(y).flatten(0, 1) for y, gain in zip(outputs, gains, strict=True)]
            self.observe(self.maker.layer, [y.flatten(0, 1) for y in outputs], spread_out)
        return torch.baddbmm(target, hidden, self.up_rows * spread)

    def _per_element(self, hidden: Tensor, target: Tensor) -> Tensor:
        rows, tokens = hidden.shape[0], hidden.shape[1]
        words = self._words(rows, tokens, hidden.device)
        flat = target.view(rows * tokens, -1)
        parts = torch.split(hidden.reshape(rows * tokens, -1), self.ranks, dim=1)
        outputs = [part @ up.T for part, up in zip(parts, self.ups, strict=True)]
        block = max(1, BLOCK.get(flat.device.type, LARGE_BLOCK) // flat.shape[1])
        for start in range(0, flat.shape[0], block):
            span = slice(start, start + block)
            gains = self.maker.gains(words[span], self.ups[0])
            if self.observe is not None:
                self.observe(self.maker.layer, [y[span] for y in outputs], gains)
            for y, gain in zip(outputs, gains, strict=True):
                flat[span].addcmul_(y[span], gain)
        return flat.view(target.shape)
