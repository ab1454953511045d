"""Dropout masks as a pure function of mask seed, layer, image, guidance half, call, token and channel."""

import math
from collections.abc import Iterator, Sequence
from copy import copy
from functools import cache
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from evalkit.run.file_record import Record
from generation.seeds import derived

# 2^32 / golden ratio and the multiplier of MurmurHash3: odd, so that counting steps reach every 32-bit word
TOKEN_STEP, CHANNEL_STEP = 0x9E3779B9, 0x85EBCA6B
# Shifts and multipliers of lowbias32 (Wellons 2018, "Prospecting for hash functions"): the low-bias two-round mixer.
ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))
LAST = 16
# Tolerance for sums of keep rates, so that p = 1 - 1/k partitions every element despite rounding.
TOLERANCE = 1e-9
# Integer type by size in bytes.
WHOLE_NUMBERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

PRESETS = {
    "official": ("element", "forward", "independent"),
    "shared_cfg": ("element", "forward", "shared"),
    "static": ("channel", "run", "shared"),
}


class MaskOptions(Record):
    """Granularity of masks, how often they are redrawn, and whether both halves of guidance share them.

    The paper's text allows one mask per channel. Its code draws one per element at every forward pass, independently for the
    guided and the unguided half (preset `official`); guidance then amplifies the difference between the halves. `shared_cfg`
    is the same with one mask for both halves. `static` masks (one per channel for the whole run) are folded into the weights
    and add no cost.
    """

    granularity: Literal["element", "channel"] = "element"
    refresh: Literal["forward", "step", "image", "run"] = "forward"
    cfg: Literal["independent", "shared"] = "independent"
    preset: Literal["official", "shared_cfg", "static"] | None = None

    @model_validator(mode="after")
    def _preset_or_options(self) -> "MaskOptions":
        explicit = sorted(self.model_fields_set & {"granularity", "refresh", "cfg"})
        if self.preset is not None and explicit:
            raise ValueError(f"preset = {self.preset!r} already sets {', '.join(explicit)}; give the preset or the options")
        return self

    @property
    def resolved(self) -> "MaskOptions":
        """Return the same options with the preset expanded."""
        if self.preset is None:
            return self
        granularity, refresh, cfg = PRESETS[self.preset]
        return self.model_copy(update={"granularity": granularity, "refresh": refresh, "cfg": cfg, "preset": None})

    @property
    def foldable(self) -> bool:
        """Return whether one mask per layer holds for the whole run, so that it can be folded into the weights."""
        options = self.resolved
        return (options.granularity, options.refresh, options.cfg) == ("channel", "run", "shared")


def signed(word: int) -> int:
    """Return the 32-bit word as a signed integer, as in torch.int32."""
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >> 31 else word


class Scratch:
    """Reusable buffers for short-lived blocks: on the CPU allocating fresh pages costs more than computing with them."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, use: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialised tensor; its memory is reused at the next call with the same `use`."""
        count, key = math.prod(shape), (use, dtype, device)
        if key not in self._buffers or self._buffers[key].numel() < count:
            self._buffers[key] = torch.empty(count, dtype=dtype, device=device)
        return self._buffers[key][:count].view(*shape)


def mix(words: Tensor) -> Tensor:
    """Hash int32 words in place and return them; multiplication wraps around, shifts are logical."""
    for shift, factor in ROUNDS:
        fold(words, shift).mul_(signed(factor))
    return fold(words, LAST)


def fold(words: Tensor, shift: int, spare: Tensor | None = None) -> Tensor:
    """Replace int32 words by words ^ (words >> shift) and return them; `spare` is memory of their size."""
    shifted = torch.bitwise_right_shift(words, shift, out=torch.empty_like(words) if spare is None else spare)
    return words.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))


def count_words(key: Tensor | int, length: int, step: int, device: torch.device) -> Tensor:
    """Return hashed words key + step, key + 2 step, ...: int32, the shape of the key (none for a number) and `length`."""
    steps = torch.arange(1, length + 1, dtype=torch.int32, device=device).mul_(signed(step))
    return mix(steps + (key[..., None] if isinstance(key, Tensor) else signed(key)))


def row_words(keys: list[int], tokens: int, device: torch.device) -> Tensor:
    """Return one int32 word per row and token, [rows * tokens]; `keys` identify image, half and call."""
    rows = torch.tensor([signed(key) for key in keys], dtype=torch.int32, device=device)
    return count_words(rows, tokens, TOKEN_STEP, device).flatten()


def channel_words(layer: str, channels: int, draw: int, device: torch.device) -> Tensor:
    """Return one int32 word per channel of a layer, [channels]; each `draw` gives independent words."""
    return count_words(derived("layer", layer, draw), channels, CHANNEL_STEP, device)


class MaskDraws:
    """One uniform number per element, for each `draw`: elements are [rows, channels]."""

    def __init__(self, rows: Tensor, channels: Sequence[Tensor], dtype: torch.dtype, scratch: Scratch | None = None) -> None:
        # the first mixing step has no carry, so it is applied to rows and channels before they are combined
        self._rows, *self._channels = (fold(one.clone(), ROUNDS[0][0]) for one in (rows, *channels))
        self._dtype, self._scratch = dtype, scratch or Scratch()
        self._shares = 0
        # by draw: its words, and whether the last mixing step was applied
        self._words: dict[int, tuple[Tensor, bool]] = {}

    def split(self, blocks: int) -> Iterator["MaskDraws"]:
        """Yield the draws of that many blocks of rows, one after the other in the same memory."""
        for rows in torch.tensor_split(self._rows, blocks):
            block = copy(self)
            block._rows, block._shares, block._words = rows, 0, {}
            yield block

    def share(self, low: float, high: float, gain: float, draw: int = 0) -> Tensor:
        """Return `gain` where the draw is in [low, high), else 0; [rows, channels].

        Adjacent shares of one draw are exactly disjoint: they compare the same 32-bit words with the same bound.
        """
        self._shares += 1
        # comparisons write integers 0 or 1, which are multiplied by the gain's bit pattern: torch converts booleans to numbers
        # five times as slowly
        whole_numbers = WHOLE_NUMBERS[self._dtype.itemsize]
        chosen = self._taken(f"share {self._shares}", whole_numbers)
        bits = _bits(gain, self._dtype)
        least = None if low < TOLERANCE else _bound(low)
        most = None if high > 1 - TOLERANCE else _bound(high)
        if least is None and most is None:
            return chosen.fill_(bits).view(self._dtype)
        words = self._drawn(draw, whole=bool(((least or 0) | (most or 0)) & 0xFFFF))
        if least is not None:
            torch.ge(words, least, out=chosen)
        if most is not None:
            below = torch.lt(words, most, out=chosen if least is None else self._taken("below", whole_numbers))
            chosen = below if least is None else chosen.mul_(below)
        return chosen.mul_(bits).view(self._dtype)

    def _drawn(self, draw: int, *, whole: bool) -> Tensor:
        """Return mix(row ^ channel) of all elements; the last step, which changes no upper bit, is applied if `whole`."""
        words, done = self._words.get(draw, (None, False))
        spare = self._taken("spare", torch.int32)
        if words is None:
            (_, factor), *rounds = ROUNDS
            into = self._taken(f"words {draw}", torch.int32)
            words = torch.bitwise_xor(self._rows[:, None], self._channels[draw][None, :], out=into).mul_(signed(factor))
            for shift, factor in rounds:
                fold(words, shift, spare).mul_(signed(factor))
        if whole and not done:
            fold(words, LAST, spare)
        self._words[draw] = words, done or whole
        return words

    def _taken(self, use: str, dtype: torch.dtype) -> Tensor:
        return self._scratch.take(use, (len(self._rows), len(self._channels[0])), dtype, self._rows.device)


@cache
def _bits(number: float, dtype: torch.dtype) -> int:
    return int(torch.tensor(number, dtype=dtype).view(WHOLE_NUMBERS[dtype.itemsize]))


def _bound(share: float) -> int:
    return min(round(share * (1 << 32)), (1 << 32) - 1) - (1 << 31)
