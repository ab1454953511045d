"""Random LoRA files: each moves a weight by what its form defines, or is refused in one line."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from evalkit.errors import UserError
from generation.families import FAMILIES, denoiser, family_of
from generation.lora.lora_file import load_lora
from generation.pipeline import Pipeline

State = dict[str, Tensor]
NAMES = [family.name for family in FAMILIES if family.name != "flux2"]
FORMS = ("lora", "tucker", "loha", "lokr", "lokr_factored", "diff", "dora", "ia3")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FAULTS = ("drop", "transpose", "wider", "nan", "integers", "alphas", "zero_alpha", "unknown", "stray_alpha", "twice")


def factored(number: int) -> int:
    """Return the largest divisor of a number up to 4."""
    return next(divisor for divisor in (4, 3, 2, 1) if number % divisor == 0)


def tensors(form: str, shape: tuple[int, ...], rank: int, chance: Random) -> State:
    """Return random tensors of a form for a weight [outputs, inputs(, height, width)], by suffix."""
    rng = torch.Generator().manual_seed(chance.randrange(1 << 30))

    def randn(*size: int) -> Tensor:
        return torch.randn(size, generator=rng) / 2

    outputs, rest = shape[0], shape[1:]
    flat = int(torch.tensor(rest).prod())
    tail = (1,) * (len(shape) - 2)
    if form == "lora" or form == "dora":
        state = {"lora_down.weight": randn(rank, *rest), "lora_up.weight": randn(outputs, rank, *tail)}
        return state | ({"dora_scale": randn(outputs, 1, *tail).abs() + 0.5} if form == "dora" else {})
    if form == "tucker":
        down, mid = randn(rank, shape[1], 1, 1), randn(rank, rank, *shape[2:])
        return {"lora_down.weight": down, "lora_up.weight": randn(outputs, rank, 1, 1), "lora_mid.weight": mid}
    if form == "loha":
        return {
            f"hada_w{n}_{side}": randn(*size) for n in (1, 2) for side, size in (("a", (outputs, rank)), ("b", (rank, flat)))
        }
    if form in ("lokr", "lokr_factored"):
        rows, columns = factored(outputs), factored(shape[1])
        second = (outputs // rows, shape[1] // columns, *shape[2:])
        if form == "lokr":
            return {"lokr_w1": randn(rows, columns), "lokr_w2": randn(*second)}
        return {
            "lokr_w1": randn(rows, columns), "lokr_w2_a": randn(second[0], rank),
            "lokr_w2_b": randn(rank, int(torch.tensor(second[1:]).prod())),
        }  # fmt: skip
    if form == "ia3":
        on_input = chance.random() < 0.5
        return {"weight": randn(shape[1] if on_input else outputs), "on_input": torch.tensor(on_input)}
    return {"diff": randn(*shape)}


def definition(state: State, weight: Tensor) -> Tensor:
    """Return the change of a weight in float64, by the published equation of the form; raise if tensors are missing."""
    t = {key: tensor.double() for key, tensor in state.items()}
    outputs, shape = weight.shape[0], weight.shape

    def scale(rank: int) -> float:
        return float(t["alpha"]) / rank if "alpha" in t else 1.0

    if "diff" in t:
        change = t["diff"]
    elif "on_input" in t:
        vector = t["weight"]
        view = (1, -1) if bool(t["on_input"]) else (-1, 1)
        change = weight.double() * vector.view(*view, *(1,) * (len(shape) - 2))
    elif "hada_w1_a" in t:
        change = (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"]) * scale(len(t["hada_w1_b"]))
    elif "lokr_w1" in t:
        full = "lokr_w2" in t
        second = t["lokr_w2"] if full else t["lokr_w2_a"] @ t["lokr_w2_b"]
        windows = second.reshape(len(second), -1, shape[2:].numel())
        change = torch.einsum("ab,cdk->acbdk", t["lokr_w1"], windows).flatten(2).flatten(0, 1)
        change = change * (1.0 if full else scale(len(t["lokr_w2_b"])))
    else:
        down, up = t["lora_down.weight"], t["lora_up.weight"]
        if "lora_mid.weight" in t:
            down = torch.einsum("mnkl,nj->mjkl", t["lora_mid.weight"], down.flatten(1))
        change = up.flatten(1) @ down.flatten(1) * scale(len(down))
        if "dora_scale" in t:
            base, magnitude = weight.double(), t["dora_scale"]
            moved = base + change.reshape(shape)
            # LyCORIS may decompose per input, with a magnitude [1, inputs(, 1, 1)]
            axes = [0, *range(2, len(shape))] if len(magnitude) == 1 < outputs else list(range(1, len(shape)))
            change = moved * magnitude / moved.square().sum(dim=axes, keepdim=True).sqrt() - base
    if tuple(change.shape) not in (tuple(shape), (outputs, shape[1:].numel())):
        raise ValueError(f"{list(change.shape)} is another shape than {list(shape)}")
    return change.reshape(shape)


def broken(state: State, fault: str, chance: Random) -> State:
    """Return the tensors with a fault."""
    state, key = dict(state), chance.choice(sorted(set(state) - {"alpha", "on_input"}))
    if fault == "drop":
        del state[key]
    elif fault == "transpose":
        state[key] = state[key].transpose(0, -1).contiguous()
    elif fault == "wider":
        state[key] = torch.cat([state[key], state[key][:1]])
    elif fault == "nan":
        state[key] = torch.full_like(state[key], torch.nan)
    elif fault == "integers":
        state[key] = state[key].to(torch.int32)
    elif fault == "alphas":
        state["alpha"] = torch.ones(4)
    elif fault == "zero_alpha":
        state["alpha"] = torch.zeros(())
    elif fault == "unknown":
        state["lora_sideways.weight"] = state[key].clone()
    return state


def one_file(pipeline: Pipeline, path: Path, chance: Random) -> str:
    """Write one random file, load it, and compare; return "moved" or "refused"."""
    component, model = family_of(pipeline).denoiser, denoiser(pipeline)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    kind = chance.choice([nn.Linear, nn.Conv2d])
    name, module = chance.choice([item for item in layers.items() if isinstance(item[1], kind)] or list(layers.items()))
    weight = module.weight.detach()
    form = chance.choice([one for one in FORMS if one != "tucker" or weight.dim() == 4])
    rank, dtype = chance.randint(1, 5), chance.choice(DTYPES)
    state = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in tensors(form, tuple(weight.shape), rank, chance).items()
    }
    alpha = chance.choice([None, 1.0, float(rank), 0.25, 7.0, -1.0])
    if alpha is not None and form not in ("diff", "ia3", "lokr"):
        state["alpha"] = torch.tensor(alpha)
    fault = chance.choice(FAULTS) if chance.random() < 0.4 else ""
    if fault:
        state = broken(state, fault, chance)
    dotted = f"{component}.{name}"
    stem = chance.choice([dotted, f"lora_{component}_{name.replace('.', '_')}", f"base_model.model.{dotted}"])
    file = {f"{stem}.{key}": value.contiguous() for key, value in state.items()}
    if fault == "stray_alpha":
        file[f"{stem}_other.alpha"] = torch.tensor(1.0)
    if fault == "twice":
        file[f"lycoris_{name.replace('.', '_')}.diff"] = torch.ones_like(weight)
    save_file(file, path)
    what = f"{form}, rank {rank}, {dtype}, alpha {alpha}, fault {fault!r}, {stem}, {list(weight.shape)}"
    refusal = ""
    try:
        lora = load_lora(path, pipeline)
        (layer,) = lora.layers
        moved = lora.part(layer).dense()
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert fault, f"{what}: refused: {refusal}"
        assert "\n" not in refusal, what
        return "refused"
    # a tensor that is dropped, transposed or longer may leave a complete file of another change
    assert fault in ("", "drop", "transpose", "wider") or (fault == "zero_alpha" and form in ("lokr", "diff", "ia3")), what
    expected = definition(state, weight)
    assert layer == dotted, what
    assert torch.allclose(moved.double(), expected, atol=1e-4 * max(1.0, float(expected.abs().max()))), what
    return "moved"


@pytest.mark.parametrize("name", NAMES)
def test_random_files_move_weights_by_definition_or_are_refused(
    name: str, request: pytest.FixtureRequest, built: Callable[[str], Pipeline], tmp_path: Path
) -> None:
    pipeline = request.getfixturevalue(name) if name in ("sd15", "sdxl") else built(name)
    chance = Random(name)
    outcomes = [one_file(pipeline, tmp_path / "x.safetensors", chance) for _ in range(12)]
    assert "moved" in outcomes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_hundreds_of_random_files(
    name: str, request: pytest.FixtureRequest, built: Callable[[str], Pipeline], tmp_path: Path
) -> None:
    pipeline = request.getfixturevalue(name) if name in ("sd15", "sdxl") else built(name)
    chance = Random(f"many {name}")
    outcomes = [one_file(pipeline, tmp_path / "x.safetensors", chance) for _ in range(300)]
    assert 0.5 < outcomes.count("moved") / len(outcomes) < 0.9
