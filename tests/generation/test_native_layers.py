"""Layers of original checkpoints in LoRA files of diffusion transformers: names, rows and scales."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file
from torch import Tensor

from evalkit.errors import UserError
from generation.families import FAMILIES, family_of
from generation.families.native_names import NativeLayer
from generation.lora.export_names import ExportNames
from generation.lora.factors import Factors
from generation.lora.lora_file import load_lora
from generation.lora.lora_writer import lora_writer
from generation.lora.weight_forms import dora
from generation.pipeline import Pipeline, components

Built = Callable[[str], Pipeline]
# Converters of original checkpoints in diffusers, and rows of layers whose split they fix by number.
CONVERTERS: dict[str, tuple[str, dict[str, int]]] = {
    "sd3": ("convert_sd3_transformer_checkpoint_to_diffusers", {}),
    "flux": ("convert_flux_transformer_checkpoint_to_diffusers", {"linear1": 3 * 3072 + 12288}),
    "flux2_klein": ("convert_flux2_transformer_checkpoint_to_diffusers", {}),
    "z_image": ("convert_z_image_transformer_checkpoint_to_diffusers", {}),
    "sana": ("convert_sana_transformer_to_diffusers", {}),
    "lumina2": ("convert_lumina2_to_diffusers", {"qkv": 2304 + 768 + 768}),
}
# Families whose original names are diffusers' own, and PixArt-Sigma, whose converter is a script outside of the package.
NO_CONVERTER = {"sd15", "sdxl", "flux2", "qwen_image", "hidream", "pixart_sigma"}
NATIVE = [*CONVERTERS, "pixart_sigma"]
# Names that trainers use besides those of the checkpoint.
TRAINERS_OWN = re.compile(r"lora[12]$|single_blocks\.\d+\.(linear1_)?qkv$")


class Checkpoint(dict[str, Tensor]):
    """Weights of one column; a layer that a converter expects and the test does not is zero."""

    rows: Mapping[str, int]

    def pop(self, key: str, *default: Any) -> Any:
        count = self.rows.get(".".join(key.split(".")[-2:-1]), 6)
        return super().pop(key, *default) if key in self or default else torch.zeros(count, 1)


def native(pipeline: Pipeline) -> list[NativeLayer]:
    return family_of(pipeline).native_layers(pipeline.transformer)


def test_every_family_has_a_converter_or_is_named() -> None:
    assert {family.name for family in FAMILIES} == NO_CONVERTER | set(CONVERTERS)


@pytest.mark.parametrize("name", CONVERTERS)
def test_rows_are_those_of_diffusers_own_conversion(name: str, built: Built) -> None:
    """Every row carries a number; the conversion of the whole checkpoint shows where each row goes."""
    function, rows = CONVERTERS[name]
    layers = [layer for layer in native(built(name)) if not TRAINERS_OWN.search(layer.name)]
    weights = {}
    for number, layer in enumerate(layers):
        count = rows.get(layer.name.rpartition(".")[2], 6)
        weights[layer.name] = torch.arange(count)[:, None] + number * 2.0**16
    checkpoint = Checkpoint({f"{key}.weight": value for key, value in weights.items()})
    checkpoint.rows = rows
    converted = getattr(single_file_utils, function)(checkpoint)
    for layer in layers:
        parts = [converted[f"{part}.weight"] for part in layer.layers]
        if layer.swapped:
            parts = list(reversed(parts[0].chunk(2)))
        assert torch.equal(torch.cat(parts), weights[layer.name]), layer.name


SPELLINGS: dict[str, Callable[[str], tuple[str, str, str]]] = {
    "original": lambda name: (f"diffusion_model.{name}", "lora_A", "lora_B"),
    "kohya": lambda name: (f"lora_unet_{name.replace('.', '_')}", "lora_down", "lora_up"),
    "peft": lambda name: (f"base_model.model.{name}", "lora_A", "lora_B"),
}


@pytest.mark.parametrize("name", NATIVE)
def test_every_original_layer_moves_its_rows_by_alpha_over_rank(name: str, built: Built, tmp_path: Path) -> None:
    pipeline, path = built(name), tmp_path / "x.safetensors"
    generator = torch.Generator().manual_seed(1)
    layers = [layer for layer in native(pipeline) if not TRAINERS_OWN.search(layer.name)]
    for number, spelling in enumerate(SPELLINGS.values()):
        state: dict[str, Tensor] = {}
        expected: dict[NativeLayer, Tensor] = {}
        for index, layer in enumerate(layers):
            modules = [pipeline.transformer.get_submodule(part) for part in layer.layers]
            rank, alpha = 1 + (index + number) % 4, 0.5 * (1 + index % 3)
            shape = modules[0].weight.shape[1:]
            up = torch.randn(sum(len(module.weight) for module in modules), rank, generator=generator)
            down = torch.randn(rank, *shape, generator=generator)
            stem, first, second = spelling(layer.name)
            state |= {f"{stem}.{first}.weight": down, f"{stem}.{second}.weight": up, f"{stem}.alpha": torch.tensor(alpha)}
            expected[layer] = (up @ down.flatten(1)) * (alpha / rank)
        save_file(state, path)
        lora = load_lora(path, pipeline)
        assert set(lora.layers) == {f"transformer.{part}" for layer in expected for part in layer.layers}
        for layer, change in expected.items():
            parts = [lora.part(f"transformer.{part}").dense().flatten(1) for part in layer.layers]
            if layer.swapped:
                parts = list(reversed(parts[0].chunk(2)))
            assert torch.allclose(torch.cat(parts), change, atol=1e-5), layer.name


QKV = ("to_q", "to_k", "to_v")
FLUX_QKV = "lora_unet_double_blocks_0_img_attn_qkv"


def flux_rows(built: Built) -> tuple[Pipeline, list[str], Tensor]:
    """Return the tiny FLUX.1, the layers of its fused image projections, and their weight."""
    pipeline = built("flux")
    layers = [f"transformer_blocks.0.attn.{name}" for name in QKV]
    return pipeline, layers, torch.cat([pipeline.transformer.get_submodule(layer).weight for layer in layers])


def fused(pipeline: Pipeline, layers: list[str], path: Path) -> Tensor:
    lora = load_lora(path, pipeline)
    return torch.cat([lora.part(f"transformer.{layer}").dense() for layer in layers])


def test_other_forms_of_a_fused_layer_are_cut_exactly(built: Built, tmp_path: Path) -> None:
    """A Kronecker product or a DoRA of fused q, k, v is no Kronecker product or DoRA of q; its change is cut by rows."""
    pipeline, layers, weight = flux_rows(built)
    path, rng = tmp_path / "x.safetensors", torch.Generator().manual_seed(0)
    outputs, inputs = weight.shape
    w1, w2 = torch.randn(3, 2, generator=rng), torch.randn(outputs // 3, inputs // 2, generator=rng)
    save_file({f"{FLUX_QKV}.lokr_w1": w1, f"{FLUX_QKV}.lokr_w2": w2}, path)
    assert torch.allclose(fused(pipeline, layers, path), torch.kron(w1, w2), atol=1e-5)
    down, up = torch.randn(2, inputs, generator=rng), torch.randn(outputs, 2, generator=rng)
    magnitude = torch.rand(1, inputs, generator=rng) + 0.5
    save_file(
        {f"{FLUX_QKV}.lora_down.weight": down, f"{FLUX_QKV}.lora_up.weight": up, f"{FLUX_QKV}.dora_scale": magnitude}, path
    )
    expected = dora(weight, up @ down, magnitude, outputs=False)
    assert torch.allclose(fused(pipeline, layers, path), expected, atol=1e-5)
    bias = torch.randn(outputs, generator=rng)
    save_file({f"{FLUX_QKV}.diff_b": bias}, path)
    lora = load_lora(path, pipeline)
    parts = [lora.part(f"transformer.{layer}.bias").dense().flatten() for layer in layers]
    assert torch.equal(torch.cat(parts), bias)


def test_separate_ranks_of_q_k_and_v_keep_their_scale(built: Built, tmp_path: Path) -> None:
    """kohya's `split_qkv` writes a block-diagonal `up` of three ranks with the alpha of one: every reader divides by all."""
    pipeline, layers, weight = flux_rows(built)
    width, rank = len(weight) // 3, 2
    up, down = torch.zeros(3 * width, 3 * rank), torch.randn(3 * rank, weight.shape[1])
    for number in range(3):
        up[number * width : (number + 1) * width, number * rank : (number + 1) * rank] = torch.randn(width, rank)
    state = {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(1.5)}
    save_file({f"{FLUX_QKV}.{key}": value for key, value in state.items()}, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors", pipeline)
    assert [lora.rank(f"transformer.{layer}") for layer in layers] == [rank] * 3
    assert torch.allclose(fused(pipeline, layers, tmp_path / "x.safetensors"), up @ down / 4, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "layers"),
    [
        ("double_blocks.0.processor.qkv_lora1", [f"transformer_blocks.0.attn.{name}" for name in QKV]),
        ("double_blocks.0.processor.proj_lora2", ["transformer_blocks.0.attn.to_add_out"]),
        ("single_blocks.0.processor.qkv_lora", [f"single_transformer_blocks.0.attn.{name}" for name in QKV]),
    ],
)
def test_names_of_xlabs(key: str, layers: list[str], built: Built, tmp_path: Path) -> None:
    pipeline = built("flux")
    weights = [pipeline.transformer.get_submodule(layer).weight for layer in layers]
    up, down = torch.randn(sum(map(len, weights)), 2), torch.randn(2, weights[0].shape[1])
    save_file({f"{key}.up.weight": up, f"{key}.down.weight": down}, tmp_path / "x.safetensors")
    assert torch.allclose(fused(pipeline, layers, tmp_path / "x.safetensors"), up @ down, atol=1e-5)


# Layers of diffusers' models as OneTrainer and SimpleTuner write them.
OWN_NAMES = {
    "OneTrainer": lambda layer: f"lora_transformer_{layer.replace('.', '_')}",
    "SimpleTuner, LyCORIS": lambda layer: f"lycoris_{layer.replace('.', '_')}",
    "SimpleTuner": lambda layer: f"transformer.{layer}",
    "ai-toolkit": lambda layer: f"diffusion_model.{layer}",
}


@pytest.mark.parametrize("name", ["sd3", "flux", "qwen_image", "z_image", "hidream"])
def test_names_of_diffusers_in_files_of_trainers(name: str, built: Built, tmp_path: Path) -> None:
    pipeline, path = built(name), tmp_path / "x.safetensors"
    layer, module = next(
        (layer, module) for layer, module in pipeline.transformer.named_modules() if layer.endswith((".to_q", "attn1.to_q"))
    )
    up, down = torch.randn(len(module.weight), 4), torch.randn(4, module.weight.shape[1])
    for stem in (spell(layer) for spell in OWN_NAMES.values()):
        save_file({f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down, f"{stem}.alpha": torch.tensor(1.0)}, path)
        assert torch.allclose(load_lora(path, pipeline).part(f"transformer.{layer}").dense(), up @ down / 4, atol=1e-5)


def test_a_layer_of_t5_is_refused_by_name(built: Built, tmp_path: Path) -> None:
    key = "lora_te3_encoder_block_0_layer_0_SelfAttention_q"
    save_file(
        {f"{key}.lora_up.weight": torch.ones(2, 1), f"{key}.lora_down.weight": torch.ones(1, 2)}, tmp_path / "x.safetensors"
    )
    with pytest.raises(
        UserError, match=f"{key}.lora_down.weight: a layer of text_encoder_3, which the base model does not have"
    ):
        load_lora(tmp_path / "x.safetensors", built("sd3"))


def test_a_fused_layer_and_one_of_its_parts_are_refused(built: Built, tmp_path: Path) -> None:
    pipeline, layers, weight = flux_rows(built)
    state = {
        f"{FLUX_QKV}.diff": torch.ones_like(weight),
        f"transformer.{layers[1]}.diff": torch.ones(len(weight) // 3, weight.shape[1]),
    }
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=f"changes transformer.{layers[1]} like {FLUX_QKV}.diff; remove one of the two"):
        load_lora(tmp_path / "x.safetensors", pipeline)


def original_names(pipeline: Pipeline) -> set[str]:
    """Return the layers of the original checkpoint, which ComfyUI finds as `lora_unet_<name with underscores>`."""
    layers = native(pipeline)
    renamed = {part for layer in layers for part in layer.layers}
    same = {name for name, _ in pipeline.transformer.named_modules() if name not in renamed}
    return same | {layer.name for layer in layers if not TRAINERS_OWN.search(layer.name)}


@pytest.mark.parametrize("name", [*NATIVE, "qwen_image", "hidream"])
def test_kohya_files_have_original_names_and_all_of_the_norm(name: str, built: Built, tmp_path: Path) -> None:
    """By ComfyUI's generic rule for every family, and by reading the file back."""
    pipeline, path, rng = built(name), tmp_path / "x.safetensors", torch.Generator().manual_seed(0)
    names = ExportNames("kohya", components(pipeline), native(pipeline))
    known = {f"lora_unet_{one.replace('.', '_')}" for one in original_names(pipeline)}
    # to_k is left out: its rows of a fused layer stay unchanged
    modules = {
        f"transformer.{layer}": module
        for layer, module in pipeline.transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and not layer.endswith(".to_k")
    }
    expected: dict[str, Tensor] = {}
    for kind in ("factors", "dense"):
        with lora_writer(path, names, torch.float32) as writer:
            for number, (layer, module) in enumerate(modules.items()):
                down = torch.randn(1 + number % 3, module.in_features, generator=rng)
                factors = Factors(down, torch.randn(module.out_features, len(down), generator=rng))
                expected[layer] = factors.dense()
                if kind == "factors":
                    writer.add_factors(layer, factors)
                else:
                    writer.add_dense(layer, expected[layer])
            writer.write({})
        assert {key.partition(".")[0] for key in load_file(path)} <= known
        lora = load_lora(path, pipeline)
        assert set(lora.layers) >= set(modules)
        for layer in lora.layers:
            change = lora.part(layer).dense()
            assert torch.allclose(change, expected.get(layer, torch.zeros_like(change)), atol=1e-5), layer


def test_parts_that_share_inputs_are_written_at_one_rank(built: Built, tmp_path: Path) -> None:
    pipeline, layers, weight = flux_rows(built)
    down, rank = torch.randn(4, weight.shape[1]), 4
    with lora_writer(
        tmp_path / "x.safetensors", ExportNames("kohya", components(pipeline), native(pipeline)), torch.float32
    ) as writer:
        for layer in layers:
            writer.add_factors(f"transformer.{layer}", Factors(down, torch.randn(len(weight) // 3, rank)))
        writer.write({})
    assert load_file(tmp_path / "x.safetensors")[f"{FLUX_QKV}.lora_down.weight"].shape[0] == rank
