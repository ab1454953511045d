"""Laws of merging, over random LoRAs: which methods mind the order of LoRAs, and one merge in three places."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from generation.batch_invariant import lora_output
from generation.lora.factors import Factors
from generation.lora.lora_file import load_lora
from generation.merge.dropout_masks import MaskDraws, channel_words, row_words
from generation.merge.lowrank import side_by_side
from generation.merge.method_inputs import ColumnObjective, StepPlan
from generation.merge.methods import MERGE_METHODS
from generation.merge.setup import WeightedLora, dense, module_of
from generation.pipeline import Pipeline
from tests.merging import INPUTS, OUTPUTS, changes, fitted, inputs, lora_parts, merged
from tests.tiny import adapted, save_peft_lora

# What the order of a case's concepts decides, for the methods in which it decides something. In all others it decides nothing.
BY_ROLE = {
    "np_lora": "which LoRA is the style",
    "k_lora": "which LoRA is the style",
    "b_lora": "which block a LoRA acts in",
    "lora_switch": "who begins",
}
# Methods that draw for one LoRA after the other: in another order each gets another draw of the same law.
BY_CHANCE = ("mc_dropout", "orthogonal_mc_dropout", "dare_linear", "dare_ties", "della", "block_rows")
PAIRS = ("np_lora", "k_lora", "b_lora", "ziplora")
FEW = settings(max_examples=12, deadline=None)


def weighed(method: str, parts: Sequence[Factors], places: Sequence[int], order: Sequence[int]) -> Tensor:
    """Return the change a method makes of `parts`, which stand at `places` in the case and arrive in `order`."""
    found = MERGE_METHODS[method]
    here, at = [parts[number] for number in order], [places[number] for number in order]
    if found.acts_on == "weights":
        blocks = {"blocks": ["unet"] * len(here)} if method == "b_lora" else {}
        return merged(method, here, places=at, **blocks)
    if found.acts_on == "steps":
        by_place = dict(zip(at, here, strict=True))
        plan = StepPlan(4, sorted(by_place), {"unet.a": at}, lambda layer, place: by_place[place])
        table: Tensor = found.function(plan)["unet.a"].double().mean(0)
        return torch.einsum("sj,joi->soi", table, torch.stack([part.dense().double() for part in here]))
    if found.acts_on == "outputs":
        draws = MaskDraws(row_words([1, 2], 1, torch.device("cpu")), [channel_words("a", OUTPUTS, n, torch.device("cpu"))
                      for n in range(len(here))], torch.float32)  # fmt: skip
        gains = found.function(draws, [1 - 1 / len(here)] * len(here))
        return torch.stack([gain[:, :, None] * part.dense() for gain, part in zip(gains, here, strict=True)]).sum(0)
    if found.needs == "columns":
        return zipped(here, order)
    seen = inputs(loras=len(parts))
    return dense(fitted(method, here, [seen[number] for number in order]))


def zipped(parts: Sequence[Factors], order: Sequence[int]) -> Tensor:
    """Return the change of ZipLoRA where each LoRA's error is its distance to a target of its own."""
    targets = 1 + 0.3 * torch.randn(len(parts), INPUTS, generator=torch.Generator().manual_seed(1))[list(order)]
    columns = torch.ones(len(parts), INPUTS, requires_grad=True)

    def errors(update: int) -> Iterator[Tensor]:
        for number, target in enumerate(targets):
            yield (columns[number] - target).norm()

    objective = ColumnObjective({"unet.a": columns}, errors)
    own: Mapping[str, Tensor] = MERGE_METHODS["ziplora"].function(objective, updates=20)
    return side_by_side([Factors(p.down * m, p.up) for p, m in zip(parts, own["unet.a"], strict=True)]).dense()


def test_the_tables_name_methods_that_there_are() -> None:
    assert {*BY_ROLE, *BY_CHANCE, *PAIRS} <= set(MERGE_METHODS)


@pytest.mark.parametrize("method", [name for name in MERGE_METHODS if name not in BY_ROLE])
@FEW
@given(data=st.data())
def test_the_order_of_a_case_decides_nothing_but_roles(method: str, data: st.DataObject) -> None:
    """LoRAs arrive by their concepts' names whatever the case's order, so chance does not follow the order either."""
    count = 2 if method in PAIRS else data.draw(st.integers(1, 4))
    parts = lora_parts(
        data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)), seed=data.draw(st.integers(0, 99))
    )
    # as its training put it: the slot of a LoRA is its own, wherever it stands in a case
    places = list(range(count)) if method == "blocklora" else data.draw(st.permutations(range(count)))
    one, other = (weighed(method, parts, at, range(count)) for at in (range(count), places))
    assert torch.equal(one, other)


@pytest.mark.parametrize("method", [name for name in MERGE_METHODS if name not in BY_CHANCE])
@FEW
@given(data=st.data())
def test_the_order_in_which_loras_arrive_decides_nothing_but_rounding(method: str, data: st.DataObject) -> None:
    count = 2 if method in PAIRS else data.draw(st.integers(2, 4))
    parts = lora_parts(
        data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)), seed=data.draw(st.integers(0, 99))
    )
    one = weighed(method, parts, range(count), range(count))
    other = weighed(method, parts, range(count), data.draw(st.permutations(range(count))))
    assert torch.allclose(one.double(), other.double(), atol=1e-3 * float(one.abs().max()))


@pytest.mark.parametrize("method", BY_CHANCE)
def test_chance_alone_makes_the_others_differ(method: str) -> None:
    parts = lora_parts((3, 3))
    assert not torch.allclose(*(weighed(method, parts, (0, 1), order) for order in ((0, 1), (1, 0))))


@pytest.mark.parametrize("method", ["np_lora", "k_lora", "lora_switch"])
def test_roles_follow_the_order_of_the_case(method: str) -> None:
    parts = lora_parts((3, 2), seed=4)
    parts[0] = Factors(parts[0].down, parts[0].up * 3)
    one, swapped = (weighed(method, parts, places, (0, 1)) for places in ((0, 1), (1, 0)))
    # four steps are one turn of a switch: whoever begins acts in all of them
    assert not torch.allclose(one, swapped)
    assert torch.equal(weighed(method, parts[::-1], (0, 1), (0, 1)), weighed(method, parts, (1, 0), (1, 0)))


@FEW
@given(
    ranks=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 99), conv=st.booleans(),
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
)  # fmt: skip
def test_a_layer_with_direct_folded_or_beside_it_gives_the_same(
    ranks: list[int], seed: int, conv: bool, weights: list[float]
) -> None:
    rng = torch.Generator().manual_seed(seed)
    layer: nn.Module = nn.Conv2d(4, OUTPUTS, 3, stride=2, padding=1) if conv else nn.Linear(INPUTS, OUTPUTS)
    x = torch.randn((2, 4, 8, 8) if conv else (2, 5, INPUTS), generator=rng)
    own = lora_parts(ranks, (4, 3, 3) if conv else (INPUTS,), seed)
    parts = [Factors(part.down, part.up * weight) for part, weight in zip(own, weights, strict=False)]
    found = MERGE_METHODS["direct"]
    change = dense(found.function(parts, None)).view(OUTPUTS, *parts[0].down.shape[1:])
    with torch.no_grad():
        beside = layer(x) + torch.stack([lora_output(layer, x, part.down, part.up) for part in parts]).sum(0)
        layer.weight.copy_(layer.weight + change)  # type: ignore[operator] # torch types a layer's weight loosely
        assert torch.allclose(layer(x), beside, atol=1e-4 * max(1.0, float(beside.abs().max())))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)))
def test_direct_exported_is_direct_folded(weights: tuple[float, float], sdxl: Pipeline, tmp_path: Path) -> None:
    """A merge written as one LoRA file changes every weight as the merge itself does."""
    # a file without any change is refused
    assume(max(map(abs, weights)) > 1e-3)
    from safetensors.torch import save_file

    files = [
        save_peft_lora(tmp_path / f"{n}.safetensors", adapted(sdxl, r"conv1$|to_[qk]$|fc1$"), rank=2 + n, seed=n)
        for n in (0, 1)
    ]
    loras = [
        WeightedLora(load_lora(file, sdxl), weight, n) for n, (file, weight) in enumerate(zip(files, weights, strict=True))
    ]
    folded = changes(sdxl, loras, "direct")
    tensors = {}
    for layer in folded:
        whole = side_by_side([one.part(layer, torch.device("cpu")) for one in loras])
        tail = (1,) * (whole.down.dim() - 2)
        tensors |= {f"{layer}.lora_A.weight": whole.down, f"{layer}.lora_B.weight": whole.up.reshape(*whole.up.shape, *tail)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "out.safetensors")
    again = changes(sdxl, [WeightedLora(load_lora(tmp_path / "out.safetensors", sdxl), 1.0, 0)], "direct")
    for layer, weight in folded.items():
        assert torch.allclose(again[layer], weight, atol=1e-5)
        assert module_of(sdxl, layer).weight.shape == weight.shape
