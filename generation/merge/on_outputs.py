"""Merges of outputs: each LoRA's output in a layer is masked at every forward pass, or once in the weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from generation.batch_invariant import convolve, linear
from generation.families import in_denoiser
from generation.lora.factors import Factors
from generation.merge.dropout_masks import MaskDraws, Scratch, channel_words
from generation.merge.dropout_rates import expand
from generation.merge.method import MergeMethod
from generation.merge.sampling_state import MaskSource, SamplingState
from generation.merge.setup import Change, Observer, Setup, WeightedLora, at_work, instead, layers_of, module_of, scheduled
from generation.pipeline import Pipeline

# Elements of a LoRA's output computed and masked at once. CPU blocks fit the last-level cache; on other devices blocks are
# large enough to hide launch costs and small enough that masks take far less memory than the activations.
BLOCK = {"cpu": 1 << 19}
LARGE_BLOCK = 1 << 24
# Minimum rows of a block: BLAS rounds products of few rows differently, so an image's bits would depend on its batch.
LOWEST = 64


def changes(
    setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState
) -> Mapping[str, Change] | None:
    """Return the weight changes of masks that are fixed for the whole run, or None if masks change while sampling."""
    if not setup.settings.foldable:
        return None
    makers = _makers(setup, loras, state)
    return {layer: partial(_masked, makers[layer], layer_loras) for layer, layer_loras in layers_of(at_work(loras)).items()}


def _masked(maker: "_Maker", layer_loras: Sequence[WeightedLora], device: torch.device) -> Factors:
    parts = [weighted.part(maker.layer, device) for weighted in layer_loras]
    gains = maker.gains(maker.draws(maker.source.run_words(device), parts[0].up))
    ups = [part.up * gain[0][:, None] for part, gain in zip(parts, gains, strict=True)]
    return Factors(torch.cat([part.down for part in parts]), torch.cat(ups, dim=1))


@contextmanager
def hooked(
    setup: Setup, pipeline: Pipeline, loras: Sequence[WeightedLora], state: SamplingState, observe: Observer | None
) -> Iterator[None]:
    """Mask the LoRAs' outputs by hooks while a block runs."""
    makers = _makers(setup, loras, state)
    with ExitStack() as stack:
        for layer, layer_loras in layers_of(at_work(loras)).items():
            module = module_of(pipeline, layer)
            parts = [weighted.part(layer, module.weight.device) for weighted in layer_loras]
            hook = _OutputHook(makers[layer], parts, module, observe)
            if hook.channelwise and hook.conv is None and observe is None:
                stack.enter_context(instead(module, partial(hook.forward, module.forward)))
            else:
                stack.callback(module.register_forward_hook(hook).remove)
        yield


def _makers(setup: Setup, loras: Sequence[WeightedLora], state: SamplingState) -> dict[str, "_Maker"]:
    source = MaskSource(setup.seed, setup.settings.resolved, state)
    rates, scratch = expand(setup.settings.p, len(loras)), Scratch()
    made = {}
    for layer, layer_loras in layers_of(at_work(loras)).items():
        own = tuple(rates[weighted.place] for weighted in layer_loras)
        tables = (
            [weighted.multipliers(state.steps) for weighted in layer_loras]
            if scheduled(layer_loras) and in_denoiser(layer)
            else []
        )
        made[layer] = _Maker(setup.method, layer, own, source, scratch, tables)
    return made


class _Maker:
    """Computes the multipliers of a layer's LoRA outputs."""

    def __init__(
        self, method: MergeMethod, layer: str, rates: tuple[float, ...], source: MaskSource, scratch: Scratch,
        tables: Sequence[Sequence[float]] = (),
    ) -> None:  # fmt: skip
        self.method, self.layer, self.rates, self.source, self.scratch = method, layer, rates, source, scratch
        # by LoRA and step, if a weight is scheduled
        self.tables = tables
        self.component = layer.partition(".")[0]
        self._channels: list[Tensor] = []

    def draws(self, rows: Tensor, like: Tensor) -> MaskDraws:
        """Return the draws of row words, in the type of `like` [channels, ...]."""
        if not self._channels:
            self._channels = [channel_words(self.layer, like.shape[0], draw, like.device) for draw in range(len(self.rates))]
        return MaskDraws(rows, self._channels, like.dtype, self.scratch)

    def gains(self, draws: MaskDraws) -> list[Tensor]:
        """Return one tensor per LoRA, [rows, channels]."""
        merged: list[Tensor] = self.method.function(draws, self.rates)
        if self.tables:
            step = self.source.state.step()
            return [gain * table[step] for gain, table in zip(merged, self.tables, strict=True)]
        return merged


class _OutputHook:
    """Adds the masked outputs of a layer's LoRAs to the layer's output."""

    def __init__(self, maker: _Maker, parts: list[Factors], module: nn.Module, observe: Observer | None) -> None:
        weight: Tensor = module.weight  # type: ignore[assignment]
        bias: Tensor | None = module.bias  # type: ignore[assignment]
        self.maker, self.observe, self.weight, self.bias = maker, observe, weight, bias
        self.down = torch.cat([part.down for part in parts]).to(weight)
        self.ups = [part.up.to(weight) for part in parts]
        self.up_rows = torch.cat(self.ups, dim=1).T.contiguous()
        self.ranks = [part.rank for part in parts]
        self.conv = module if isinstance(module, nn.Conv2d) else None
        self.channelwise = maker.source.options.granularity == "channel"

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.added(args[0], output)

    def added(self, x: Tensor, output: Tensor) -> Tensor:
        """Return the layer's output plus that of the LoRAs."""
        if self.maker.source.state.bare:
            return output
        hidden = self._hidden(x)
        rows, tokens = hidden.shape[0], hidden.shape[1]
        target = output if self.conv is None else output.flatten(2).transpose(1, 2).contiguous()
        target = target.reshape(rows, tokens, -1)
        target = (self._per_channel if self.channelwise else self._per_element)(hidden, target)
        if self.conv is None:
            return target.view(output.shape)
        return target.transpose(1, 2).reshape(output.shape)

    def _hidden(self, x: Tensor) -> Tensor:
        """Return all LoRAs' hidden activations, concatenated; [rows, tokens, sum of ranks]."""
        if self.conv is None and x.dim() == 2:
            return linear(x, self.down)[:, None]
        if self.conv is None:
            flat = x.reshape(-1, x.shape[-1])
            hidden = self.maker.scratch.take("hidden", (len(flat), len(self.down)), x.dtype, x.device)
            # products of few rows round by their number, so that the images of a batch go one by one
            pieces = len(x) if _is_short(x.device, len(flat) // len(x)) else 1
            for rows, into in zip(torch.tensor_split(flat, pieces), torch.tensor_split(hidden, pieces), strict=True):
                torch.mm(rows, self.down.T, out=into)
            return hidden.view(x.shape[0], -1, len(self.down))
        return convolve(self.conv, x, self.down).flatten(2).transpose(1, 2)

    def _draws(self, rows: int, tokens: int) -> MaskDraws:
        words = self.maker.source.words(self.maker.component, rows, tokens, self.down.device)
        return self.maker.draws(words, self.ups[0])

    def forward(self, before: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return the layer's output with channel masks folded into its weight, if that is cheaper than a second product.

        One weight per row, rounded once as in a folded merge: outputs * inputs products per rank, instead of outputs + inputs
        per rank and token.
        """
        outputs, inputs = self.weight.shape
        tokens = x[0].numel() // inputs
        if self.maker.source.state.bare or tokens * (outputs + inputs) < outputs * inputs:
            return self.added(x, before(x))
        made = x.new_empty(x.shape[0], tokens, outputs)
        weight = self.maker.scratch.take("weight", self.weight.shape, x.dtype, x.device)
        for row, ups, into in zip(x.reshape(x.shape[0], tokens, inputs), self._masked(len(x))[1], made, strict=True):
            torch.addmm(self.weight, ups.T, self.down, out=weight)
            if self.bias is None:
                torch.mm(row, weight.T, out=into)
            else:
                torch.addmm(self.bias, row, weight.T, out=into)
        return made.view(*x.shape[:-1], outputs)

    def _masked(self, rows: int) -> tuple[list[Tensor], Tensor]:
        """Return the multipliers of the LoRAs' outputs, [rows, channels], and all masked `up`s, [rows, ranks, channels]."""
        gains = self.maker.gains(self._draws(rows, 1))
        spread = torch.cat([gain[:, None, :].expand(-1, rank, -1) for gain, rank in zip(gains, self.ranks, strict=True)], dim=1)
        return gains, spread.mul_(self.up_rows)

    def _per_channel(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Mask the rows of `up`, so that one product serves all LoRAs."""
        gains, ups = self._masked(hidden.shape[0])
        if self.observe is not None:
            outputs = [part @ up.T for part, up in zip(torch.split(hidden, self.ranks, dim=2), self.ups, strict=True)]
            spread_out = [gain[:, None].expand_as(y).flatten(0, 1) for y, gain in zip(outputs, gains, strict=True)]
            self.observe(self.maker.layer, [y.flatten(0, 1) for y in outputs], spread_out)
        return target.baddbmm_(hidden, ups)

    def _per_element(self, hidden: Tensor, target: Tensor) -> Tensor:
        rows, tokens = hidden.shape[0], hidden.shape[1]
        flat, inner = target.view(rows * tokens, -1), hidden.reshape(rows * tokens, -1)
        height = max(LOWEST, BLOCK.get(flat.device.type, LARGE_BLOCK) // flat.shape[1])
        short = _is_short(flat.device, tokens)
        blocks = rows if short else max(1, flat.shape[0] // height)
        seen: list[tuple[list[Tensor], list[Tensor]]] = []
        scratch = self.maker.scratch
        parted = self._draws(rows, tokens).split(blocks), *(torch.tensor_split(whole, blocks) for whole in (inner, flat))
        for draws, z, block in zip(*parted, strict=True):
            gains = self.maker.gains(draws)
            for part, up, gain in zip(torch.split(z, self.ranks, dim=1), self.ups, gains, strict=True):
                y = scratch.take("output", block.shape, block.dtype, block.device)
                block.addcmul_(torch.mm(part, up.T, out=y), gain)
            if self.observe is not None:
                outputs = [part @ up.T for part, up in zip(torch.split(z, self.ranks, dim=1), self.ups, strict=True)]
                seen.append((outputs, [gain.clone() for gain in gains]))
                if not short or len(seen) == blocks:
                    outputs, gains = (
                        [torch.cat(parts) for parts in zip(*side, strict=True)] for side in zip(*seen, strict=True)
                    )
                    self.observe(self.maker.layer, outputs, gains)
                    seen.clear()
        return target


def _is_short(device: torch.device, tokens: int) -> bool:
    """Return whether products of one image's tokens have so few rows that BLAS on the CPU rounds by their number."""
    return device.type == "cpu" and tokens < LOWEST
