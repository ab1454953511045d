"""What is held of a LoRA's factors while it is trained, and what chance sets to zero, against the equations written out."""

import json
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from evalkit.errors import UserError
from generation.lora.factors import Factors
from generation.lora.lora_file import load_lora
from generation.pipeline import Pipeline, load_pipeline
from generation.seeds import derived
from generation.train.adapters import NAME, add_adapters
from generation.train.orthogonal_basis import basis_rows, basis_sha256, random_rows, slot_rows
from generation.train.recipe import Blocks, read_recipe
from generation.train.row_blocks import slot_mask, slot_members
from tests.train.conftest import Train, recipe_file

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

ALL_KINDS = 'targets = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1"]\ntext_rank = 2\n'
FAST = "learning_rate = 1e-2\ntext_learning_rate = 1e-2\n"


def note(file: Path, key: str) -> object:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()[key])


@pytest.mark.parametrize("rule", ["contiguous", "heads", "strided"])
@pytest.mark.parametrize(("count", "slots"), [(320, 15), (16, 16), (7, 3)])
def test_slots_share_out_all_rows_and_none_twice(rule: str, count: int, slots: int):
    masks = [slot_members(count, Blocks(slot=slot, slots=slots, rule=rule)) for slot in range(slots)]  # type: ignore[arg-type]
    assert torch.stack(masks).sum(0).tolist() == [1] * count
    assert max(int(mask.sum()) for mask in masks) - min(int(mask.sum()) for mask in masks) <= 1


def test_a_contiguous_slot_is_the_stretch_of_the_formula():
    mine = slot_members(320, Blocks(slot=4, slots=15)).nonzero().flatten().tolist()
    assert mine == list(range(4 * 320 // 15, 5 * 320 // 15))


def test_geglu_has_a_slot_in_both_halves_and_heads_stay_whole(place: Path):
    unet = load_pipeline(place / "base").unet
    attention = "mid_block.attentions.0.transformer_blocks.0.attn1"
    heads, rows = unet.get_submodule(attention).heads, unet.get_submodule(f"{attention}.to_q").out_features
    mine = slot_mask(unet, f"{attention}.to_q", rows, Blocks(slot=1, slots=2, rule="heads"))
    assert mine.view(heads, -1).float().mean(1).tolist() == [0] * (heads // 2) + [1] * (heads // 2)
    gate = "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"
    rows = unet.get_submodule(gate).out_features
    first, second = slot_mask(unet, gate, rows, Blocks(slot=1, slots=5)).chunk(2)
    assert torch.equal(first, second)
    assert first.nonzero().flatten().tolist() == list(range(rows // 2 // 5, 2 * (rows // 2) // 5))


def test_blocklora_trains_its_rows_and_only_them(place: Path, train_tiny: Train):
    pipeline = load_pipeline(place / "base")
    # the reference is switched on and off on the way, which must not let go of the rows
    table = "[consistency]\n[blocks]\nslots = 4\nrule = 'strided'\n"
    files = [train_tiny(f"{FAST}{ALL_KINDS}{table}slot = {slot}", f"slot{slot}") for slot in (0, 3)]
    loras = [load_lora(file, pipeline) for file in files]
    for layer in loras[0].factors:
        first, second = (lora.part(layer) for lora in loras)
        component, _, name = layer.partition(".")
        mine = slot_mask(getattr(pipeline, component), name, len(first.up), Blocks(slot=0, slots=4, rule="strided"))
        assert first.up[~mine].abs().max() == 0
        # SDXL reads the text encoders before their last layer, which nothing can train
        assert first.up[mine].abs().max() > 0 or layer.startswith("text_encoder")
        # orthogonal and without sign conflicts, by construction
        assert float((first.dense() * second.dense()).abs().max()) == 0
    assert [note(files[1], f"evalkit.{key}") for key in ("slot", "slots", "block_rule")] == [3, 4, "strided"]


def test_holding_rows_is_the_gradient_of_the_masked_product():
    recipe_mask = slot_members(6, Blocks(slot=1, slots=3))
    generator = Generator().manual_seed(0)
    down, x = torch.randn(2, 5, generator=generator), torch.randn(4, 5, generator=generator)
    up = torch.zeros(6, 2, requires_grad=True)
    ((x @ (recipe_mask[:, None] * up @ down).T - 1) ** 2).sum().backward()
    held = torch.zeros(6, 2, requires_grad=True)
    held.register_hook(lambda gradient: gradient * recipe_mask[:, None])
    ((x @ (held @ down).T - 1) ** 2).sum().backward()
    assert torch.equal(up.grad, held.grad)  # type: ignore[arg-type] # both are there after backward


def test_the_numbers_trained_are_counted_without_those_held(place: Path, tmp_path: Path):
    def numbers(lines: str) -> tuple[int, Pipeline]:
        pipeline = load_pipeline(place / "base")
        return add_adapters(pipeline, read_recipe(recipe_file(tmp_path, lines))).numbers, pipeline

    full, pipeline = numbers("")
    weights = dict(pipeline.unet.named_parameters())
    ups = sum(weight.numel() for name, weight in weights.items() if "lora_B" in name)
    downs = sum(weight.numel() for name, weight in weights.items() if "lora_A" in name)
    assert full == ups + downs
    assert numbers("[blocks]\nslot = 0\nslots = 4")[0] == downs + ups // 4
    assert numbers("[basis]\nslot = 0")[0] == ups


@pytest.mark.parametrize("inputs", [1, 2, 30, 320])
def test_the_basis_is_orthonormal_and_a_cosine_transform_with_flipped_columns(inputs: int):
    from scipy.fft import dct

    basis = basis_rows(inputs, range(inputs)).double()
    assert torch.allclose(basis @ basis.T, torch.eye(inputs, dtype=torch.float64), atol=1e-6)
    plain = torch.from_numpy(dct(torch.eye(inputs).double().numpy(), norm="ortho", axis=0))
    assert torch.allclose(basis.abs(), plain.abs(), atol=1e-7)
    assert torch.allclose(basis * basis[:1].sign(), plain, atol=1e-7)


def test_the_basis_has_the_same_bytes_on_every_machine():
    # written down once: whole-number cosines, correctly rounded
    assert [basis_sha256(inputs)[:16] for inputs in (320, 768)] == ["54d1fab07f7ce62d", "97cf99466e84927e"]


def test_rows_are_disjoint_by_slot_and_by_chance_a_function_of_the_name():
    assert slot_rows(2, 20, 320) == list(range(40, 60))
    with pytest.raises(
        ValueError, match="320 inputs have room for 16 slots of rank 20, counted from 0; slot 16 does not exist"
    ):
        slot_rows(16, 20, 320)
    rows = random_rows("cat", 20, 320)
    assert rows == random_rows("cat", 20, 320) != random_rows("dog", 20, 320)
    assert len(set(rows)) == 20
    # Po et al.'s overlap: 20 * 20 / 320 = 1.25 shared rows on average
    shared = [len(set(random_rows(f"a{n}", 20, 320)) & set(random_rows(f"b{n}", 20, 320))) for n in range(400)]
    assert sum(shared) / 400 == pytest.approx(1.25, abs=0.2)
    with pytest.raises(ValueError, match="16 inputs have fewer than 20 rows; lower the rank"):
        random_rows("cat", 20, 16)


def test_orthogonal_adaptation_freezes_its_rows_and_two_slots_have_no_crosstalk(place: Path, train_tiny: Train):
    pipeline = load_pipeline(place / "base")
    files = [train_tiny(f"{FAST}{ALL_KINDS}[dco]\n[basis]\nslot = {slot}", f"slot{slot}") for slot in (0, 1)]
    first, second = (load_lora(file, pipeline) for file in files)
    for layer, factors in first.factors.items():
        down = factors.down.flatten(1)
        assert torch.equal(down, basis_rows(down.shape[1], slot_rows(0, 2, down.shape[1])))
        assert factors.up.float().abs().max() > 0 or layer.startswith("text_encoder")
        assert float((down @ second.factors[layer].down.flatten(1).T).abs().max()) < 1e-6
    said = note(files[1], "evalkit.basis")
    assert isinstance(said, dict)
    assert (said["rows"], said["slot"], said["sha256"]["16"]) == ("slots", 1, basis_sha256(16))
    pipeline.load_lora_weights(str(files[0]))
    by_chance = train_tiny("[basis]\nrows = 'random'", "random")
    down = load_lora(by_chance, load_pipeline(place / "base")).factors[
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    ]
    assert torch.equal(down.down, basis_rows(32, random_rows("cat", 2, 32)))


def _layer(place: Path, folder: Path, lines: str, target: str) -> tuple[LoraLayer, Factors, object, str]:
    """Return a LoRA layer that is not zero, its factors, the chance hung on it, and its name."""
    pipeline = load_pipeline(place / "base")
    adapters = add_adapters(pipeline, read_recipe(recipe_file(folder, f"targets = ['{target}']\n{lines}")))
    name, layer = next((name, layer) for name, layer in pipeline.unet.named_modules() if isinstance(layer, LoraLayer))
    up = layer.lora_B[NAME].weight
    up.data = torch.randn(up.shape, generator=Generator().manual_seed(1))
    return layer, Factors(layer.lora_A[NAME].weight.data, up.data.flatten(1)), adapters.dropout, f"unet.{name}"


def _kept(kind: str, name: str, shape: tuple[int, ...], rate: float) -> Tensor:
    """Return the mask of step 5 at seed 0."""
    return (torch.rand(shape, generator=Generator().manual_seed(derived(kind, 0, name, 5))) >= rate).float()


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("dropout = 0.4", "dropout"),
        ("rank_dropout = 0.4", "rank_dropout"),
        ("[erasure]\nrate = 0.4", "erasure"),
        ("[erasure]\nrate = 0.4\nper = 'sample'\nrescale = true", "erasure-sample"),
    ],
)
@pytest.mark.parametrize("target", ["ff.net.2", "conv1"])
def test_chance_sets_to_zero_what_the_equation_says(place: Path, tmp_path: Path, lines: str, kind: str, target: str):
    layer, factors, chance, name = _layer(place, tmp_path, lines, target)
    conv = target == "conv1"
    inputs = factors.down.shape[1]
    x = torch.randn((3, inputs, 4, 4) if conv else (3, 5, inputs), generator=Generator().manual_seed(2))
    tail = (1, 1) if conv else ()

    def through(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return nn.functional.conv2d(x, weight, padding=padding) if conv else x @ weight.T

    def channels(first: int, count: int) -> tuple[int, ...]:
        return (first, count, 1, 1) if conv else (first, 1, count)

    outputs, rank = factors.up.shape
    given = x * _kept("dropout", name, tuple(x.shape), 0.4) / 0.6 if kind == "dropout" else x
    hidden = through(given, factors.down, 1)
    if kind == "rank_dropout":
        hidden = hidden * _kept("rank_dropout", name, channels(3, rank), 0.4) / 0.6
    change = through(hidden, factors.up.view(outputs, rank, *tail), 0)
    if kind == "erasure":
        # one row of 0 and 1 per output, shared by all samples: r * (B A), no rescaling
        change = change * _kept("erasure", name, channels(1, outputs), 0.4)
    if kind == "erasure-sample":
        change = change * _kept("erasure", name, channels(3, outputs), 0.4) / 0.6
    with torch.no_grad():
        plain = layer.base_layer(x)
        off = layer(x)
        chance.step = 5  # type: ignore[attr-defined]
        on = layer(x)
        assert torch.equal(on, layer(x))
        assert torch.allclose(on - plain, change, atol=1e-4)
        chance.step = 6  # type: ignore[attr-defined]
        assert not torch.equal(on, layer(x))
        chance.step = None  # type: ignore[attr-defined]
        assert torch.equal(layer(x), off)


def test_all_parts_combine_and_leave_the_global_generator_alone(place: Path, train_tiny: Train):
    before = torch.random.get_rng_state()
    lines = (
        f"{FAST}{ALL_KINDS}dropout = 0.1\nrank_dropout = 0.1\n[consistency]\n[dco]\n[blocks]\nslot = 0\nslots = 4\n[erasure]\n"
    )
    first, second = (train_tiny(f"{lines}[basis]\nslot = 2", name) for name in "ab")
    assert torch.equal(before, torch.random.get_rng_state())
    a, b = load_file(first), load_file(second)
    assert all(torch.equal(a[key], b[key]) for key in a)
    load_pipeline(place / "base").load_lora_weights(str(first))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("dropout = 1", "dropout: must be less than 1"),
        ("[blocks]\nslot = 4\nslots = 4", "blocks.*: slot 4 does not exist among 4 slots; give 0 to 3"),
        (
            "[blocks]\nslot = 0\nslots = 4\nrule = 'columns'",
            r"blocks\.rule: must be 'contiguous', 'heads' or 'strided'",
        ),
        ("[erasure]\nrate = 0", r"erasure\.rate: must be greater than 0"),
        ("[basis]", 'basis.*: rows = "slots" requires a slot, counted from 0'),
        ("[basis]\nrows = 'random'\nslot = 1", 'basis: rows = "slots" requires a slot.*; rows = "random" has none'),
    ],
)
def test_mistakes_in_an_adapter_are_named(tmp_path: Path, lines: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(recipe_file(tmp_path, lines))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("[blocks]\nslot = 0\nslots = 33", r"blocks\.slots: .*to_\w has 32 rows, too few for 33 slots; give 32 or fewer"),
        ("[blocks]\nslot = 0\nslots = 9\nrule = 'heads'", r"has \d heads, too few for 9 slots"),
        (
            "[basis]\nslot = 16",
            r"basis: unet\..*32 inputs have room for 16 slots of rank 2, counted from 0; slot 16 does not exist",
        ),
    ],
)
def test_a_slot_that_a_layer_has_not_is_refused(train_tiny: Train, lines: str, message: str):
    with pytest.raises(UserError, match=message):
        train_tiny(lines)
