"""Masks as a pure function: a hash of mask seed, layer, image, guidance half, call, token and channel decides each element."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from evalkit.manifest import Record
from generation.seeds import derived

# 2^32 / golden ratio and the multiplier of MurmurHash3: odd, so that counting steps reach every 32-bit word
TOKEN_STEP, CHANNEL_STEP = 0x9E3779B9, 0x85EBCA6B
# Shifts and multipliers of lowbias32 (Wellons 2018, "Prospecting for hash functions"): the low-bias two-round mixer.
ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))
LAST = 16
# Shares that float arithmetic leaves this near to 1 are 1: p = 1 - 1/k partitions every element.
TOLERANCE = 1e-9

PRESETS = {
    "official": ("element", "forward", "independent"),
    "shared_cfg": ("element", "forward", "shared"),
    "static": ("channel", "run", "shared"),
}


class MaskOptions(Record):
    """How fine masks are, how often they are drawn anew, and whether both halves of guidance share them.

    The paper's text allows a mask per channel, its code draws one per element at every forward pass, anew for the guided and
    the unguided half (preset `official`); guidance then amplifies the halves' difference. `static` masks are folded into the
    weights and cost nothing at run time.
    """

    granularity: Literal["element", "channel"] = "element"
    refresh: Literal["forward", "step", "image", "run"] = "forward"
    cfg: Literal["independent", "shared"] = "independent"
    preset: Literal["official", "shared_cfg", "static"] | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "MaskOptions":
        said = sorted(self.model_fields_set & {"granularity", "refresh", "cfg"})
        if self.preset is not None and said:
            raise ValueError(f"preset = {self.preset!r} already says {', '.join(said)}; give the one or the others")
        return self

    @property
    def resolved(self) -> "MaskOptions":
        """Return the same options with the preset spelt out."""
        if self.preset is None:
            return self
        granularity, refresh, cfg = PRESETS[self.preset]
        return self.model_copy(update={"granularity": granularity, "refresh": refresh, "cfg": cfg, "preset": None})

    @property
    def foldable(self) -> bool:
        """Return whether one mask per layer serves the whole run, so that it can be folded into the weights."""
        options = self.resolved
        return (options.granularity, options.refresh, options.cfg) == ("channel", "run", "shared")


def signed(word: int) -> int:
    """Return the 32-bit word as torch's int32 holds it."""
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >> 31 else word


class Scratch:
    """Memory for blocks that live for a moment, used again: on the CPU fresh pages cost more than the sums in them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, use: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a tensor of any content; it is another one's memory as soon as the same `use` is taken again."""
        count, key = math.prod(shape), (use, dtype, device)
        if key not in self._kept or self._kept[key].numel() < count:
            self._kept[key] = torch.empty(count, dtype=dtype, device=device)
        return self._kept[key][:count].view(*shape)


def mix(words: Tensor) -> Tensor:
    """Scramble int32 words in place and return them; multiplication wraps around, shifts are logical."""
    for shift, factor in ROUNDS:
        fold(words, shift).mul_(signed(factor))
    return fold(words, LAST)


def fold(words: Tensor, shift: int, spare: Tensor | None = None) -> Tensor:
    """Replace int32 words by words ^ (words >> shift) and return them; `spare` is memory of their size."""
    shifted = torch.bitwise_right_shift(words, shift, out=torch.empty_like(words) if spare is None else spare)
    return words.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))


def count_words(key: Tensor | int, length: int, step: int, device: torch.device) -> Tensor:
    """Return scrambled words key + step, key + 2 step, ...: int32, the key's shape (none for a number) and `length`."""
    steps = torch.arange(1, length + 1, dtype=torch.int32, device=device).mul_(signed(step))
    return mix(steps + (key[..., None] if isinstance(key, Tensor) else signed(key)))


def row_words(keys: list[int], tokens: int, device: torch.device) -> Tensor:
    """Return one int32 word per row and token, [rows * tokens]; `keys` stand for image, half and call."""
    rows = torch.tensor([signed(key) for key in keys], dtype=torch.int32, device=device)
    return count_words(rows, tokens, TOKEN_STEP, device).flatten()


def channel_words(layer: str, channels: int, draw: int, device: torch.device) -> Tensor:
    """Return one int32 word per channel of a layer, [channels]; another `draw` gives independent words."""
    return count_words(derived("layer", layer, draw), channels, CHANNEL_STEP, device)


class Draws:
    """One uniform number per element, for each `draw`: elements are [rows, channels]."""

    def __init__(self, rows: Tensor, channels: list[Tensor], dtype: torch.dtype, scratch: Scratch | None = None) -> None:
        self._rows, self._channels, self._dtype = rows, channels, dtype
        self._scratch = scratch or Scratch()
        self._shares = 0
        # by draw: its words, and whether their last scrambling is done
        self._words: dict[int, tuple[Tensor, bool]] = {}

    def share(self, low: float, high: float, gain: float, draw: int = 0) -> Tensor:
        """Return `gain` where the draw lies in [low, high), 0 elsewhere; [rows, channels].

        Adjacent shares of one draw are disjoint exactly: they compare the same 32-bit words with the same bound.
        """
        self._shares += 1
        gains = self._taken(f"share {self._shares}", self._dtype)
        least = None if low < TOLERANCE else _bound(low)
        most = None if high > 1 - TOLERANCE else _bound(high)
        if least is None and most is None:
            return gains.fill_(gain)
        words = self._drawn(draw, whole=bool(((least or 0) | (most or 0)) & 0xFFFF))
        # comparisons answer in the words' own type, 0 or 1: torch turns booleans into numbers five times as slowly
        kept = self._taken("kept", torch.int32)
        if least is not None:
            torch.ge(words, least, out=kept)
        if most is not None:
            below = torch.lt(words, most, out=kept if least is None else self._taken("spare", torch.int32))
            kept = below if least is None else kept.mul_(below)
        return gains.copy_(kept).mul_(gain)

    def _drawn(self, draw: int, *, whole: bool) -> Tensor:
        """Return mix(row ^ channel) of all elements; where not `whole`, the last step may be missing, which moves no upper bit.

        The first step sees no carry, so rows and channels take it before they meet.
        """
        words, done = self._words.get(draw, (None, False))
        spare = self._taken("spare", torch.int32)
        if words is None:
            (shift, factor), *rounds = ROUNDS
            rows, channels = (fold(one.clone(), shift) for one in (self._rows, self._channels[draw]))
            words = torch.bitwise_xor(rows[:, None], channels[None, :], out=self._taken(f"words {draw}", torch.int32))
            words.mul_(signed(factor))
            for shift, factor in rounds:
                fold(words, shift, spare).mul_(signed(factor))
        if whole and not done:
            fold(words, LAST, spare)
        self._words[draw] = words, done or whole
        return words

    def _taken(self, use: str, dtype: torch.dtype) -> Tensor:
        return self._scratch.take(use, (len(self._rows), len(self._channels[0])), dtype, self._rows.device)


def _bound(share: float) -> int:
    return min(round(share * (1 << 32)), (1 << 32) - 1) - (1 << 31)
