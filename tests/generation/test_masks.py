"""Masks: the law of the paper, from a hash that no batch, order or device can change."""

import math
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.merge.dropout_masks import CHANNEL_STEP, TOKEN_STEP, TOLERANCE, MaskDraws, channel_words, mix, row_words, signed
from generation.merge.dropout_rates import check_disjoint
from generation.merge.methods import MERGE_METHODS
from generation.seeds import derived
from tests.official_masks import dropout_masks, orthogonal_masks

CPU = torch.device("cpu")
ORTHOGONAL, DROPOUT = MERGE_METHODS["orthogonal_mc_dropout"].function, MERGE_METHODS["mc_dropout"].function


def draws(keys: list[int], tokens: int, channels: int, layer: str = "unet.a", count: int = 4) -> MaskDraws:
    words = [channel_words(layer, channels, draw, CPU) for draw in range(count)]
    return MaskDraws(row_words(keys, tokens, CPU), words, torch.float32)


def mixed(word: int) -> int:
    """The same hash in plain integers."""
    word &= 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word ^= word >> shift
        word = word * factor & 0xFFFFFFFF
    return word ^ word >> 16


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_the_hash_in_torch_is_the_hash_in_integers(words: list[int]) -> None:
    tensor = torch.tensor([signed(word) for word in words], dtype=torch.int32)
    assert mix(tensor).tolist() == [signed(mixed(word)) for word in words]


def test_every_word_comes_from_key_token_and_channel() -> None:
    rows = row_words([5, 7], 3, CPU).tolist()
    assert rows == [signed(mixed(key + (token + 1) * TOKEN_STEP)) for key in (5, 7) for token in range(3)]
    key = derived("layer", "unet.a", 1)
    assert channel_words("unet.a", 4, 1, CPU).tolist() == [signed(mixed(key + (c + 1) * CHANNEL_STEP)) for c in range(4)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4), st.integers(0, 2**31))
def test_a_share_compares_the_whole_hash_of_row_and_channel(shares: list[tuple[float, float]], key: int) -> None:
    """Whatever steps are saved on the way, no mask may change by a bit."""
    rows, channels = row_words([key], 7, CPU), channel_words("unet.a", 9, 0, CPU)
    words = mix(rows[:, None] ^ channels[None, :]).to(torch.int64) + 2**31
    drawn = MaskDraws(rows, [channels], torch.float32)
    bounds = [sorted(pair) for pair in [*shares, (0.25, 0.5)]]
    for (low, high), found in [(pair, drawn.share(*pair, gain=3.0)) for pair in bounds]:
        least, most = (min(round(bound * 2**32), 2**32 - 1) for bound in (low, high))
        below = words < most if high <= 1 - TOLERANCE else torch.ones_like(words, dtype=torch.bool)
        assert torch.equal(found, 3.0 * ((words >= (least if low >= TOLERANCE else 0)) & below))


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.5, 0.7, 0.9), (2 / 3,) * 3, (0.2, 0.9), (0.0,)])
def test_orthogonal_masks_never_overlap_and_keep_their_share(rates: tuple[float, ...]) -> None:
    gains = ORTHOGONAL(draws([1, 2, 3, 4], 250, 100), rates)
    for one, other in combinations(gains, 2):
        assert torch.count_nonzero(one * other) == 0
    for gain, rate in zip(gains, rates, strict=True):
        kept = gain.count_nonzero().item() / gain.numel()
        assert kept == pytest.approx(1 - rate, abs=4 * math.sqrt(rate * (1 - rate) / gain.numel()))
        assert set(gain.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - rate)).item()}


@pytest.mark.parametrize("count", range(2, 41))
def test_shares_of_one_kth_partition_every_element(count: int) -> None:
    rates = (1 - 1 / count,) * count
    check_disjoint(count, SimpleNamespace(p=rates[0]))
    gains = torch.stack(ORTHOGONAL(draws([9], 40, 50), rates))
    assert torch.equal((gains != 0).sum(0), torch.ones(2000, dtype=torch.long).view(40, 50))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), st.floats(0.05, 1.0))
def test_any_feasible_rates_are_disjoint(shares: list[float], total: float) -> None:
    rates = tuple(1 - total * share / sum(shares) for share in shares)
    check_disjoint(len(rates), SimpleNamespace(p=rates))
    kept = torch.stack(ORTHOGONAL(draws([3], 20, 30), rates)) != 0
    assert int(kept.sum(0).max()) <= 1


def test_dropout_masks_keep_their_share_and_are_independent() -> None:
    first, second = (gain != 0 for gain in DROPOUT(draws([1, 2], 500, 100), (0.5, 0.2)))
    assert first.float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(first.numel()))
    assert second.float().mean().item() == pytest.approx(0.8, abs=4 * 0.4 / math.sqrt(first.numel()))
    both = (first & second).float().mean().item()
    assert both == pytest.approx(0.4, abs=4 * math.sqrt(0.24 / first.numel()))


@pytest.mark.parametrize("change", ["image", "token", "channel", "layer", "draw"])
def test_masks_of_different_places_are_independent(change: str) -> None:
    one = draws([1], 300, 300)
    others = {
        "image": draws([2], 300, 300).share(0, 0.5, 1.0),
        "token": one.share(0, 0.5, 1.0).roll(1, 0),
        "channel": one.share(0, 0.5, 1.0).roll(1, 1),
        "layer": draws([1], 300, 300, layer="unet.b").share(0, 0.5, 1.0),
        "draw": one.share(0, 0.5, 1.0, draw=1),
    }
    agree = (one.share(0, 0.5, 1.0) == others[change]).float().mean().item()
    assert agree == pytest.approx(0.5, abs=4 * 0.5 / 300)


def test_the_paper_s_construction_has_the_same_law() -> None:
    rates = (0.5, 0.7, 0.8)
    rng = torch.Generator().manual_seed(0)
    theirs = torch.stack(orthogonal_masks((300, 300), rates, rng)) != 0
    ours = torch.stack(ORTHOGONAL(draws([1], 300, 300), rates)) != 0
    assert int(theirs.sum(0).max()) == int(ours.sum(0).max()) == 1
    # the law of disjoint masks is that of the owner: one of k LoRAs, or none
    for kept in (theirs, ours):
        owners = [*kept.flatten(1).float().mean(1).tolist(), 1 - kept.any(0).float().mean().item()]
        assert owners == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=4 * 0.5 / 300)
    independent = dropout_masks((300, 300), rates, rng)
    assert [mask.mean().item() for mask in independent] == pytest.approx([0.5, 0.3, 0.2], abs=4 * 0.5 / 300)
