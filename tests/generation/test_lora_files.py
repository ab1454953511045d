"""LoRA files: every format on its layers, the scale each layer states, and one clear line for what can't be merged."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from generation.lora.lora_file import find_adapter, load_lora
from generation.pipeline import Pipeline
from tests.tiny import adapted, factors, kohya_name, save_kohya_lora, save_peft_lora

State = dict[str, Tensor]


def test_a_file_in_diffusers_form_keeps_its_layers_and_factors(world: Path, sdxl: Pipeline) -> None:
    path = world / "star.safetensors"
    lora, raw = load_lora(path, sdxl), load_file(path)
    assert set(lora.factors) == set(adapted(sdxl))
    assert {name.partition(".")[0] for name in lora.factors} == {"unet", "text_encoder", "text_encoder_2"}
    assert lora.sha256 == sha256_file(path)
    for name, factor in lora.factors.items():
        assert torch.equal(factor.down, raw[f"{name}.lora_A.weight"])
        assert torch.equal(factor.up, raw[f"{name}.lora_B.weight"])


def test_kohya_s_alphas_that_differ_between_layers_are_kept(world: Path, sdxl: Pipeline) -> None:
    """diffusers 0.42 loads such a file with scales of 2 and 0.5 on attention and text encoders; all of them are 1."""
    lora = load_lora(world / "ring.safetensors", sdxl)
    assert {lora.factors[name].rank for name in lora.factors} == {4, 8, 16}
    assert set(lora.scales.values()) == {1.0}
    assert any(name.startswith("text_encoder.") for name in lora.scales)
    assert any(lora.factors[name].down.dim() == 4 for name in lora.factors)
    raw = load_file(world / "ring.safetensors")
    for name, factor in lora.factors.items():
        assert torch.equal(factor.up, raw[f"{kohya_name(name)}.lora_up.weight"].flatten(1))


def test_alpha_and_weight_scale_a_part(tmp_path: Path, sdxl: Pipeline) -> None:
    name, module = next(iter(adapted(sdxl).items()))
    path = save_kohya_lora(tmp_path / "a.safetensors", {name: module}, ranks=(4,), seed=0)
    state = load_file(path)
    save_file({**state, f"{kohya_name(name)}.alpha": torch.tensor(1.0)}, path)
    lora = load_lora(path, sdxl)
    assert lora.scales == {name: 0.25}
    assert torch.equal(lora.part(name, weight=2.0).up, state[f"{kohya_name(name)}.lora_up.weight"] * 0.5)


def test_peft_s_metadata_states_scales(tmp_path: Path, sdxl: Pipeline) -> None:
    layers = dict(list(adapted(sdxl, r"^mid_block.*to_[qkv]$").items()))
    path = save_peft_lora(tmp_path / "a.safetensors", layers, rank=4, seed=0)
    metadata = '{"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2}, "unet.r": 4}'
    save_file(load_file(path), path, {"lora_adapter_metadata": metadata})
    scales = load_lora(path, sdxl).scales
    assert {scale for name, scale in scales.items() if name.endswith("attn1.to_q")} == {0.5}
    assert {scale for name, scale in scales.items() if not name.endswith("attn1.to_q")} == {2.0}
    save_file(load_file(path), path, {"lora_adapter_metadata": '{"unet.lora_alpha": 8, "unet.use_rslora": true}'})
    assert set(load_lora(path, sdxl).scales.values()) == {4.0}


@pytest.mark.parametrize("form", ["kohya", "peft"])
def test_stable_diffusion_15_takes_linear_and_convolution_layers(form: str, tmp_path: Path, sd15: Pipeline) -> None:
    layers = {**adapted(sd15), **adapted(sd15, r"proj_in$|proj_out$|conv2$")}
    path = tmp_path / "a.safetensors"
    if form == "kohya":
        save_kohya_lora(path, layers, ranks=(2, 3), seed=1)
        state = load_file(path)
        save_file({key.replace("lora_te1_", "lora_te_"): value for key, value in state.items()}, path)
    else:
        save_peft_lora(path, layers, rank=3, seed=1)
    lora = load_lora(path, sd15)
    assert set(lora.factors) == set(layers)
    assert set(lora.scales.values()) == {1.0}


def test_a_text_encoder_without_attention_layers_is_loaded(tmp_path: Path, sdxl: Pipeline) -> None:
    """diffusers' own loading fails on such a file, since it can't infer the format."""
    layers = adapted(sdxl, r"fc1$|text_projection$")
    assert set(load_lora(save_kohya_lora(tmp_path / "a.safetensors", layers, ranks=(4,), seed=1), sdxl).factors) == set(layers)


def test_files_of_attention_processors_alone_are_the_unet_s(tmp_path: Path, sdxl: Pipeline) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = factors(sdxl.unet.get_submodule(name), 4, torch.Generator().manual_seed(0))
    stem = name.replace(".to_q", ".processor.to_q_lora")
    save_file({f"{stem}.down.weight": down, f"{stem}.up.weight": up}, tmp_path / "a.safetensors")
    assert list(load_lora(tmp_path / "a.safetensors", sdxl).factors) == [f"unet.{name}"]


def with_key(key: str, like: str = "") -> Callable[[State], State]:
    return lambda state: {**state, key: torch.zeros(4)}


def without(part: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if part not in key}


def with_value(value: float) -> Callable[[State], State]:
    def change(state: State) -> State:
        key = sorted(state)[0]
        return {**state, key: torch.full_like(state[key], value)}

    return change


def renamed(old: str, new: str) -> Callable[[State], State]:
    return lambda state: {key.replace(old, new): value for key, value in state.items()}


def wider(state: State) -> State:
    key = next(key for key in sorted(state) if key.endswith("lora_A.weight"))
    return {**state, key: torch.cat([state[key], state[key]], dim=1)}


REFUSALS: dict[str, tuple[str, Callable[[State], State], str]] = {
    "magnitudes of no layer": ("kohya", with_key("lora_unet_x.dora_scale"), r"x.dora_scale: the base model has no layer"),
    "embeddings": ("kohya", with_key("bundle_emb.x.string_to_param"), "belongs to trained embeddings"),
    "stranger": ("peft", with_key("unet.x.weight"), "unet.x.weight: is not a key of a known LoRA format"),
    "half": ("peft", without("attn1.to_q.lora_B"), r"to_q.lora_A.weight: .*its other half \(up\) is missing"),
    "NaN": ("peft", with_value(float("nan")), "contains NaN or infinity"),
    "infinity": ("kohya", with_value(float("inf")), "infinity|alpha is inf"),
    "wrong shape": ("peft", wider, r"do not fit unet\..*made for another architecture\?"),
    "other layers": ("peft", renamed("mid_block", "mid_block_7"), "mid_block_7.*: the base model has no layer"),
    "other component": ("peft", renamed("unet.", "transformer."), "transformer, which the base model does not have"),
    "no layer": ("peft", lambda state: {}, "contains no LoRA layers"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_can_not_be_merged_is_refused_in_one_line(what: str, tmp_path: Path, sdxl: Pipeline) -> None:
    form, change, message = REFUSALS[what]
    layers = adapted(sdxl, r"^mid_block.*to_[qkv]$")
    path = tmp_path / "x.safetensors"
    if form == "peft":
        save_peft_lora(path, layers, rank=4, seed=0)
    else:
        save_kohya_lora(path, layers, ranks=(4,), seed=0)
    save_file({key: value.contiguous() for key, value in change(load_file(path)).items()}, path)
    with pytest.raises(UserError, match=message) as caught:
        load_lora(path, sdxl)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_text_encoder_the_model_lacks_is_named(world: Path, sd15: Pipeline) -> None:
    with pytest.raises(UserError, match=r"text_encoder_2|do not fit|no layer"):
        load_lora(world / "star.safetensors", sd15)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle", None])
def test_a_broken_file_is_named(content: bytes | None, world: Path, tmp_path: Path, sdxl: Pipeline) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((world / "star.safetensors").read_bytes()[:-100] if content is None else content)
    with pytest.raises(UserError, match=r"is empty|is a PyTorch pickle|is not a complete safetensors file"):
        load_lora(path, sdxl)


def test_a_missing_file_and_an_unreachable_hub_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x.safetensors: no such LoRA file"):
        find_adapter("x.safetensors", None, None, tmp_path)
    with pytest.raises(UserError, match=r"owner/name/x.safetensors: no such folder, and the hub did not give it"):
        find_adapter("owner/name", "x.safetensors", None, tmp_path)
