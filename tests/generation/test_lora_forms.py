"""Forms of LoRA files: how far each moves a weight, against trainers' own forward passes and definitions."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from evalkit.errors import UserError
from generation.lora.adapter_forms import ADAPTER_FORMS
from generation.lora.layer_weights import LayerWeights
from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.methods import MERGE_METHODS
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora, at_work, weight_of
from generation.pipeline import Pipeline

LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.mid_block.resnets.0.conv1"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
RANK, ALPHA = 4, 2.0
State = dict[str, Tensor]


def module_of(pipeline: Pipeline, layer: str) -> nn.Module:
    component, _, name = layer.partition(".")
    part = getattr(pipeline, component)
    try:
        return part.get_submodule(name)
    except AttributeError:
        return part.get_submodule(name.removeprefix("text_model."))


def kohya(layer: str) -> str:
    component, _, name = layer.partition(".")
    return {"unet": "lora_unet_", "text_encoder": "lora_te1_"}[component] + name.replace(".", "_")


def moved(path: Path, pipeline: Pipeline, layer: str, **options: Any) -> Tensor:
    """Return the change of a layer's weight that a file describes."""
    lora = load_lora(path, pipeline, **options)
    (name,) = [one for one in lora.layers if one.endswith(layer.partition(".")[2].removeprefix("text_model."))]
    return lora.part(name).dense()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 7 * sum(shape))) / 2


# LyCORIS' modules by name and arguments; their weights are filled with random numbers, and their forward pass is the oracle.
LYCORIS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "LoCon": ("LoConModule", {}),
    "LoCon, Tucker": ("LoConModule", {"use_tucker": True}),
    "LoCon, DoRA": ("LoConModule", {"weight_decompose": True}),
    "LoCon, DoRA per input": ("LoConModule", {"weight_decompose": True, "wd_on_out": False}),
    "LoCon, rank-stabilised": ("LoConModule", {"rs_lora": True}),
    "LoHa": ("LohaModule", {}),
    "LoHa, Tucker": ("LohaModule", {"use_tucker": True}),
    "LoHa, DoRA": ("LohaModule", {"weight_decompose": True}),
    "LoKr": ("LokrModule", {"factor": 4}),
    "LoKr, both factored": ("LokrModule", {"factor": 4, "decompose_both": True, "lora_dim": 1}),
    "LoKr, full": ("LokrModule", {"factor": 4, "full_matrix": True}),
    "LoKr, DoRA": ("LokrModule", {"factor": 4, "weight_decompose": True}),
    "OFT": ("DiagOFTModule", {}),
    "OFT, constrained": ("DiagOFTModule", {"constraint": 0.01}),
    "OFT, rescaled": ("DiagOFTModule", {"rescaled": True}),
    "IA3 on inputs": ("IA3Module", {"train_on_input": True}),
    "IA3 on outputs": ("IA3Module", {"train_on_input": False}),
}


@pytest.mark.parametrize("layer", [LINEAR, CONV])
@pytest.mark.parametrize("form", LYCORIS)
def test_a_form_moves_the_weight_as_its_trainer_s_forward_pass(form: str, layer: str, tmp_path: Path, sdxl: Pipeline) -> None:
    modules = pytest.importorskip("lycoris.modules", reason="lycoris-lora is not installed")
    kind, options = LYCORIS[form]
    target = module_of(sdxl, layer)
    if "Tucker" in form and not isinstance(target, nn.Conv2d):
        pytest.skip("the Tucker form exists for convolutions only")
    given = {"lora_dim": RANK, "alpha": ALPHA, **options}
    if "constraint" in given:
        given["alpha"] = given.pop("constraint")
        given["constraint"] = given["alpha"]
    adapter = getattr(modules, kind)(kohya(layer), target, multiplier=1.0, **given)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "dora_scale" in name:
                parameter.mul_(1 + torch.rand(parameter.shape, generator=generator))
            elif not name.startswith("org_module"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
        shape = (2, target.in_channels, 5, 5) if isinstance(target, nn.Conv2d) else (2, 3, target.in_features)
        x = randn(*shape)
        before = target(x)
        adapter.eval()
        expected = adapter(x)
        path = tmp_path / "x.safetensors"
        save_file({f"{kohya(layer)}.{key}": value.contiguous().clone() for key, value in _saved(adapter).items()}, path)
        change = moved(path, sdxl, layer)
        weight = target.weight.clone()
        target.weight += change
        got = target(x)
        target.weight.copy_(weight)
    assert not torch.allclose(expected, before, atol=1e-3)
    assert torch.allclose(got, expected, atol=2e-5, rtol=1e-4)


def _saved(adapter: nn.Module) -> State:
    state = adapter.state_dict()
    return {key: value for key, value in state.items() if not key.startswith("org_module")}


def full_of(weight: Tensor) -> tuple[State, Tensor]:
    diff = randn(*weight.shape)
    return {"diff": diff}, diff


def set_of(weight: Tensor) -> tuple[State, Tensor]:
    new = randn(*weight.shape)
    return {"set_weight": new}, new - weight


def ia3_of(weight: Tensor) -> tuple[State, Tensor]:
    factors = randn(len(weight), 1)
    return {"ia3_l": factors}, weight * (factors.view(-1, *[1] * (weight.dim() - 1)) - 1)


def magnitude_of(weight: Tensor) -> tuple[State, Tensor]:
    down, up = randn(RANK, *weight.shape[1:]), randn(len(weight), RANK, *weight.shape[2:] and (1, 1))
    moved_weight = weight + (up.flatten(1) @ down.flatten(1)).view_as(weight)
    magnitude = randn(len(weight)).abs()
    norm = moved_weight.flatten(1).norm(dim=1)
    factor = (magnitude / norm).view(-1, *[1] * (weight.dim() - 1))
    return {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector": magnitude}, moved_weight * factor - weight


DEFINED: Mapping[str, Callable[[Tensor], tuple[State, Tensor]]] = {
    "full difference": full_of, "replaced weight": set_of, "IA3 of peft": ia3_of, "DoRA of peft": magnitude_of,
}  # fmt: skip


@pytest.mark.parametrize("layer", [LINEAR, CONV, TEXT])
@pytest.mark.parametrize("form", DEFINED)
def test_a_form_moves_the_weight_by_its_definition(form: str, layer: str, tmp_path: Path, sdxl: Pipeline) -> None:
    weight: Any = module_of(sdxl, layer).weight
    state, expected = DEFINED[form](weight.detach())
    save_file({f"{kohya(layer)}.{key}": value.contiguous() for key, value in state.items()}, tmp_path / "x.safetensors")
    assert torch.allclose(moved(tmp_path / "x.safetensors", sdxl, layer), expected, atol=1e-5)


@pytest.mark.parametrize("series", [True, False])
def test_oft_of_peft_moves_the_weight_as_peft_s_merge(series: bool, tmp_path: Path, sdxl: Pipeline) -> None:
    from peft import OFTConfig, inject_adapter_in_model

    target = module_of(sdxl, LINEAR)
    holder = nn.ModuleDict({"to_q": nn.Linear(target.in_features, target.out_features)})
    with torch.no_grad():
        holder["to_q"].weight.copy_(target.weight)
    config = OFTConfig(oft_block_size=4, r=0, target_modules=["to_q"], use_cayley_neumann=series, init_weights=False)
    inject_adapter_in_model(config, holder, "default")
    layer = holder["to_q"]
    with torch.no_grad():
        layer.oft_R["default"].weight.copy_(randn(*layer.oft_R["default"].weight.shape) / 5)
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(
        {f"base_model.model.{LINEAR.removeprefix('unet.')}.oft_R.weight": layer.oft_R["default"].weight.detach().clone()},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "OFT", "use_cayley_neumann": series, "num_cayley_neumann_terms": 5})
    )
    layer.merge()
    expected = layer.base_layer.weight - target.weight
    assert float(expected.abs().max()) > 0.01
    assert torch.allclose(moved(folder, sdxl, LINEAR), expected, atol=1e-5)


def test_norms_and_biases_are_changed(tmp_path: Path, sdxl: Pipeline) -> None:
    state = {"lora_unet_conv_in.diff_b": randn(16), "lora_unet_conv_norm_out.w_norm": randn(16, seed=1)}
    save_file({**state, "lora_unet_conv_norm_out.b_norm": randn(16, seed=2)}, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors", sdxl)
    assert lora.layers == ("unet.conv_in.bias", "unet.conv_norm_out.bias", "unet.conv_norm_out.weight")
    assert torch.equal(lora.part("unet.conv_in.bias", 0.5).dense().flatten(), state["lora_unet_conv_in.diff_b"] * 0.5)


def test_every_form_has_an_oracle() -> None:
    tested = {name.partition(",")[0] for name in [*LYCORIS, *DEFINED]} | {"OFT of peft"}
    for form in ADAPTER_FORMS:
        name = form.name.partition(",")[0]
        assert name in tested or any(one.startswith(name) for one in tested), form.name


def plain(rank: int = RANK, **extra: Tensor) -> State:
    width = 32
    return {"lora_down.weight": randn(rank, width), "lora_up.weight": randn(width, rank), **extra}


def test_an_alpha_of_zero_is_refused_until_its_meaning_is_chosen(tmp_path: Path, sdxl: Pipeline) -> None:
    path = tmp_path / "x.safetensors"
    save_file({f"{kohya(LINEAR)}.{key}": value for key, value in plain(alpha=torch.tensor(0.0)).items()}, path)
    with pytest.raises(UserError, match=r"alpha is 0, which kohya .* set alpha_zero = \"rank\" or \"zero\""):
        load_lora(path, sdxl)
    assert load_lora(path, sdxl, "rank").scales == {LINEAR: 1.0}
    assert load_lora(path, sdxl, "zero").scales == {LINEAR: 0.0}


TO_K = kohya(LINEAR).replace("to_q", "to_k")
HALF = {"lora_down.weight": randn(RANK, 32)}
PEFT_KEYS = {f"{LINEAR}.lora_A.weight": randn(RANK, 32), f"{LINEAR}.lora_B.weight": randn(32, RANK)}
# Tensors, metadata and message.
REFUSED: dict[str, tuple[State, dict[str, str] | None, str]] = {
    "alpha of no layer": ({**plain(), "lora_unet_x.alpha": torch.tensor(1.0)}, None, "x.alpha: an alpha of no layer"),
    "alpha of another layer": ({**plain(), f"{TO_K}.alpha": torch.tensor(1.0)}, None, "no factors of unet"),
    "alpha of four numbers": (plain(alpha=torch.ones(4)), None, "alpha: contains 4 numbers; an alpha is one number"),
    "every up is zero": ({**HALF, "lora_up.weight": torch.zeros(32, RANK)}, None, "every change in it is zero"),
    "metadata that is not JSON": (plain(), {"lora_adapter_metadata": "{r: 4"}, "in its header is not valid JSON"),
    "metadata that is a list": (plain(), {"lora_adapter_metadata": "[4]"}, "in its header is a JSON list, not an object"),
    "no up": (HALF, None, r"its other half \(up\) is missing"),
    "half a LoHa": ({"hada_w1_a": randn(32, 4), "hada_w1_b": randn(4, 32)}, None, "form no complete adapter"),
    "a LoKr of another width": ({"lokr_w1": randn(4, 4), "lokr_w2": randn(8, 9)}, None, "LoKr tensors do not fit"),
    "an OFT of another width": ({"oft_blocks": randn(3, 5, 5)}, None, "OFT tensors do not fit"),
    "peft's OFT without configuration": ({"oft_R.weight": randn(8, 6)}, None, "give the folder that peft wrote"),
    "a DoRA of another width": (plain(dora_scale=randn(31, 1)), None, r"magnitudes of shape \[31, 1\] for a weight of"),
    "GLoRA": ({"a1.weight": randn(4, 32)}, None, "a GLoRA adapter, which is not supported"),
    "two names of one layer": ({**plain(), **PEFT_KEYS}, None, "remove one of the two"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_act_at_a_wrong_scale_is_refused_in_one_line(what: str, tmp_path: Path, sdxl: Pipeline) -> None:
    state, metadata, message = REFUSED[what]
    own = ("unet.", "lora_unet")
    full = {key if key.startswith(own) else f"{kohya(LINEAR)}.{key}": value for key, value in state.items()}
    save_file(full, tmp_path / "x.safetensors", metadata)
    with pytest.raises(UserError, match=message) as caught:
        load_lora(tmp_path / "x.safetensors", sdxl)
    assert "\n" not in str(caught.value)


BYTES = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n": "is a Git LFS pointer",
    b"<!doctype html><html></html>": "is a web page",
    b"PK\x03\x04 a pickle": "is a PyTorch pickle",
    b"\x80\x02}q\x00.": "is a Python pickle",
    b"GGUF\x03": "is a GGUF file",
    b'{"r": 4}': "is a JSON file",
    b"": "is empty",
    b"\x10\x00\x00\x00\x00\x00\x00\x00{": "is not a complete safetensors file",
}


@pytest.mark.parametrize("content", BYTES)
def test_what_is_not_a_lora_file_is_named(content: bytes, tmp_path: Path, sdxl: Pipeline) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=BYTES[content]):
        load_lora(tmp_path / "x.safetensors", sdxl)


NAMES: dict[str, tuple[str, str, str]] = {
    "diffusers": (LINEAR, "lora_A.weight", "lora_B.weight"),
    "older diffusers": (LINEAR, "lora.down.weight", "lora.up.weight"),
    "attention processors": (
        "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora",
        "down.weight",
        "up.weight",
    ),
    "kohya": (kohya(LINEAR), "lora_down.weight", "lora_up.weight"),
    "kohya with original names": (
        "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q",
        "lora_down.weight",
        "lora_up.weight",
    ),
    "LyCORIS": ("lycoris_" + kohya(LINEAR).removeprefix("lora_unet_"), "lora_down.weight", "lora_up.weight"),
    "original checkpoint": ("diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q", "lora_A.weight", "lora_B.weight"),
    "peft": ("base_model.model." + LINEAR.removeprefix("unet."), "lora_A.weight", "lora_B.weight"),
    "peft with an adapter's name": ("base_model.model." + LINEAR, "lora_A.default.weight", "lora_B.default.weight"),
    "no prefix": (LINEAR.removeprefix("unet."), "lora_A.weight", "lora_B.weight"),
    "dotted kohya": (LINEAR, "lora_down.weight", "lora_up.weight"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [None, 4.0, 1.0, 6.0])
@pytest.mark.parametrize("name", NAMES)
def test_every_spelling_moves_the_weight_by_alpha_over_rank(
    name: str, alpha: float | None, dtype: torch.dtype, tmp_path: Path, sdxl: Pipeline
) -> None:
    stem, first, second = NAMES[name]
    down, up = randn(RANK, 32).to(dtype), randn(32, RANK).to(dtype)
    state = {f"{stem}.{first}": down, f"{stem}.{second}": up}
    if alpha is not None:
        state[f"{stem.removesuffix('_lora')}.alpha"] = torch.tensor(alpha)
    save_file(state, tmp_path / "x.safetensors")
    expected = (up.float() @ down.float()) * (1.0 if alpha is None else alpha / RANK)
    assert torch.allclose(moved(tmp_path / "x.safetensors", sdxl, LINEAR), expected, atol=1e-6)


def test_a_peft_folder_has_its_scale_in_its_configuration(tmp_path: Path, sdxl: Pipeline) -> None:
    stem = "base_model.model." + LINEAR.removeprefix("unet.")
    save_file(
        {f"{stem}.lora_A.weight": randn(RANK, 32), f"{stem}.lora_B.weight": randn(32, RANK)},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 2}')
    assert load_lora(tmp_path, sdxl).scales == {LINEAR: 0.5}
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 2, "use_rslora": true}')
    assert load_lora(tmp_path, sdxl).scales == {LINEAR: 1.0}


def test_two_forms_of_keys_in_one_file(tmp_path: Path, sdxl: Pipeline) -> None:
    other = LINEAR.replace("to_q", "to_k")
    state = {f"{other}.lora_A.weight": randn(RANK, 32), f"{other}.lora_B.weight": randn(32, RANK)}
    save_file({**state, **{f"{kohya(LINEAR)}.{key}": value for key, value in plain().items()}}, tmp_path / "x.safetensors")
    assert load_lora(tmp_path / "x.safetensors", sdxl).layers == (other, LINEAR)


@pytest.mark.parametrize(
    "layer", [LINEAR, "unet.mid_block.resnets.0.conv_shortcut", "unet.down_blocks.1.resnets.0.conv_shortcut"]
)
def test_matrices_and_1x1_convolutions_are_the_same(layer: str, tmp_path: Path, sdxl: Pipeline) -> None:
    try:
        weight: Any = module_of(sdxl, layer).weight
    except AttributeError:
        pytest.skip("the tiny model has no such layer")
    down, up = randn(RANK, weight[0].numel()), randn(len(weight), RANK)
    other = (down, up) if weight.dim() == 4 else (down[:, :, None, None], up[:, :, None, None])
    save_file({f"{layer}.lora_A.weight": other[0], f"{layer}.lora_B.weight": other[1]}, tmp_path / "x.safetensors")
    assert torch.allclose(moved(tmp_path / "x.safetensors", sdxl, layer).flatten(1), up @ down, atol=1e-6)


def adapters(tmp_path: Path, pipeline: Pipeline) -> list[WeightedLora]:
    """Return a LoKr with a bias, and a plain LoRA, on the same layer."""
    state = {f"{kohya(LINEAR)}.lokr_w1": randn(4, 4), f"{kohya(LINEAR)}.lokr_w2": randn(8, 8)}
    save_file({**state, "lora_unet_conv_in.diff_b": randn(16)}, tmp_path / "kron.safetensors")
    save_file({f"{kohya(LINEAR)}.{key}": value for key, value in plain().items()}, tmp_path / "plain.safetensors")
    loras = [load_lora(tmp_path / f"{name}.safetensors", pipeline) for name in ("kron", "plain")]
    return [WeightedLora(lora, 0.5, position, lora.path.stem) for position, lora in enumerate(loras)]


# Methods on weights that need more than changes of weights: LoRAs trained for them, or two that act in separate blocks.
TRAINED = ("blocklora", "orthogonal_adaptation", "b_lora")


@pytest.mark.parametrize("method", [name for name, one in MERGE_METHODS.items() if name not in TRAINED])
def test_every_method_merges_other_forms_or_states_why_not(method: str, tmp_path: Path, sdxl: Pipeline) -> None:
    found, loras, state = MERGE_METHODS[method], adapters(tmp_path, sdxl), SamplingState(sdxl)
    merge = Merge(found, found.settings({"calibration_steps": 1} if found.acts_on == "calibrated" else {}), seed=0)
    weight, bias = weight_of(sdxl, LINEAR), weight_of(sdxl, "unet.conv_in.bias")
    before = weight.clone(), bias.clone()
    try:
        if found.factors_reason or found.acts_on != "weights":
            with pytest.raises(UserError, match=f"kron.safetensors: .*{method}"), merge.applied(sdxl, loras, state):
                pass
        else:
            with merge.applied(sdxl, loras, state):
                assert not torch.equal(weight, before[0])
                if method == "direct":
                    expected = sum(one.part(LINEAR, weight.device).dense() for one in loras)
                    assert torch.allclose(weight - before[0], expected, atol=1e-5)
                    assert torch.allclose(bias - before[1], randn(16) / 2, atol=1e-6)
    finally:
        state.close()
    assert torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])


def test_weights_per_component_and_block_scale_their_layers_only(tmp_path: Path, sdxl: Pipeline) -> None:
    layers = (
        LINEAR,
        LINEAR.replace("to_q", "to_k"),
        "unet.conv_in",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
    )
    state: State = {}
    for layer in layers:
        weight: Any = module_of(sdxl, layer).weight
        state[f"{kohya(layer)}.diff"] = torch.ones_like(weight)
    save_file(state, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors", sdxl)
    weights = LayerWeights(unet=0.5, text_encoder=0.25, blocks={"mid_block": 0.75, f"{LINEAR}": 0.0})
    one = WeightedLora(lora, weights, 0)
    assert [one.weight_in(layer) for layer in layers] == [0.0, 0.75, 0.5, 0.25]
    assert LINEAR not in one.layers
    method, state_ = MERGE_METHODS["direct"], SamplingState(sdxl)
    before = {layer: module_of(sdxl, layer).weight.clone() for layer in layers}
    with Merge(method, method.settings({}), seed=0).applied(sdxl, [one], state_):
        moves = [float((module_of(sdxl, layer).weight - before[layer]).mean()) for layer in layers]
    state_.close()
    assert moves == pytest.approx([0.0, 0.75, 0.5, 0.25], abs=1e-5)
    assert not at_work([WeightedLora(lora, LayerWeights(unet=0.0, text_encoder=0.0), 0)])
