"""The published architectures of SDXL 1.0 and SD 1.5 at full size with random weights, and LoRAs for all of their layers."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from generation.lora.export_names import long_name
from generation.pipeline import Pipeline, quiet
from generation.train.orthogonal_basis import basis_rows, basis_sha256, slot_rows
from tests.tiny import LETTERS, adapted

Family = Literal["sdxl", "sd15"]
WORDS = 49_408
# Every attention, feed-forward and text-encoder layer.
LAYERS = r"attn[12]\.to_(q|k|v|out\.0)$|ff\.net\.(0\.proj|2)$|[qkv]_proj$|out_proj$|fc[12]$"
# Latents of 32 x 32, so that the model's own size, at which calibrated merges draw, is 256 px too.
SIDE = 32
NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
# A LoRA's change of a weight beside the weight itself.
STRENGTH = 0.5


def save_model(folder: Path, family: Family, dtype: torch.dtype) -> Pipeline:
    """Write a pipeline of the family at full size, and return it."""
    words = _tokenizer()
    vae = _vae(0.13025 if family == "sdxl" else 0.18215)
    pipeline: Any
    with torch.device("meta"):
        small = CLIPTextModel(_text(768, 12, 12, "quick_gelu"))
        if family == "sdxl":
            large = CLIPTextModelWithProjection(_text(1280, 32, 20, "gelu"))
            unet = UNet2DConditionModel(
                sample_size=SIDE, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10), cross_attention_dim=2048, use_linear_projection=True,
                addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
            )  # fmt: skip
        else:
            unet = UNet2DConditionModel(
                sample_size=SIDE, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8, cross_attention_dim=768,
            )  # fmt: skip
    if family == "sdxl":
        pipeline = StableDiffusionXLPipeline(
            _filled(vae, dtype), _filled(small, dtype), _filled(large, dtype), words, words, _filled(unet, dtype),
            EulerDiscreteScheduler(**NOISE), add_watermarker=False,
        )  # fmt: skip
    else:
        pipeline = StableDiffusionPipeline(
            _filled(vae, dtype), _filled(small, dtype), words, _filled(unet, dtype),
            PNDMScheduler(skip_prk_steps=True, **NOISE), None, None, requires_safety_checker=False,
        )  # fmt: skip
    with quiet():
        pipeline.save_pretrained(folder)
    return pipeline


def _tokenizer() -> CLIPTokenizer:
    """Return a tokenizer of single letters that has as many entries as CLIP's and reads 77 tokens."""
    letters = [*LETTERS, *(letter + "</w>" for letter in LETTERS)]
    unused = [f"unused{number}" for number in range(WORDS - 2 - len(letters))]
    tokens = [*letters, *unused, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=77)


def _text(width: int, layers: int, heads: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=WORDS, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        max_position_embeddings=77, projection_dim=width, hidden_act=activation, bos_token_id=WORDS - 2,
        eos_token_id=WORDS - 1, pad_token_id=WORDS - 1,
    )  # fmt: skip


def _vae(factor: float) -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=8 * SIDE,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=factor,
        )  # fmt: skip


def _filled(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a model without storage as one with random weights: spread as torch's own start, biases 0, norms 1."""
    positions = {name: torch.arange(77)[None] for name, _ in model.named_buffers() if name.endswith("position_ids")}
    model = model.to(dtype).to_empty(device="cpu")
    for name, buffer in model.named_buffers():
        buffer.copy_(positions[name])
    # one stretch of noise, read from another place for every weight: drawing two billion numbers would take a minute
    noise = torch.randn((1 << 25) + 9973, generator=torch.Generator().manual_seed(0)).to(dtype)
    start = 0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() < 2:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            start = (start + 977) % 9973
            spread = 0.02 if "embedding" in name else (3 * weight[0].numel()) ** -0.5
            for piece in torch.split(weight.view(-1), 1 << 25):
                torch.mul(noise[start : start + len(piece)], spread, out=piece)
    return model


def save_lora(
    path: Path,
    pipeline: Pipeline,
    layers: str,
    form: Literal["peft", "kohya"],
    ranks: Sequence[int],
    alphas: Sequence[float],
    seed: int,
) -> dict[str, float]:
    """Write a LoRA for the layers, ranks and alphas taken in turn; return alpha / rank by layer."""
    rng = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    scales: dict[str, float] = {}
    said: dict[str, Any] = {}
    for place, (layer, module) in enumerate(adapted(pipeline, layers).items()):
        rank, alpha = ranks[place % len(ranks)], alphas[place % len(alphas)]
        scales[layer] = alpha / rank
        down, up = _factors(module, rank, scales[layer], rng)
        stem = long_name(layer) if form == "peft" else kohya_name(layer, pipeline)
        names = ("lora_A", "lora_B") if form == "peft" else ("lora_down", "lora_up")
        state |= {f"{stem}.{names[0]}.weight": down.half(), f"{stem}.{names[1]}.weight": up.half()}
        component, _, name = layer.partition(".")
        if form == "kohya":
            state[f"{stem}.alpha"] = torch.tensor(float(alpha))
        else:
            said.setdefault(f"{component}.rank_pattern", {})[name] = rank
            said.setdefault(f"{component}.alpha_pattern", {})[name] = alpha
            said |= {f"{component}.r": ranks[0], f"{component}.lora_alpha": alphas[0]}
    save_file(state, path, {"lora_adapter_metadata": json.dumps(said)} if said else None)
    return scales


def save_trained_apart(
    path: Path, pipeline: Pipeline, layers: str, way: Literal["rows", "basis"], slot: int, rank: int = 4
) -> None:
    """Write a LoRA as BlockLoRA (`rows`) or Orthogonal Adaptation (`basis`) train it in one of two slots."""
    rng = torch.Generator().manual_seed(slot)
    state: dict[str, Tensor] = {}
    widths: set[int] = set()
    for layer, module in adapted(pipeline, layers).items():
        down, up = _factors(module, rank, 1.0, rng)
        widths.add(down.shape[1])
        if way == "rows":
            up *= (torch.arange(len(up)) % 2 == slot)[:, None]
        else:
            down = _slot(slot, rank, down.shape[1]).clone()
        state |= {f"{long_name(layer)}.lora_A.weight": down, f"{long_name(layer)}.lora_B.weight": up}
    notes: Mapping[str, Any] = {"slot": slot, "slots": 2, "block_rule": "strided"}
    if way == "basis":
        notes = {"basis": {"rows": "slots", "slot": slot, "sha256": {str(width): basis_sha256(width) for width in widths}}}
    save_file(state, path, {f"evalkit.{key}": json.dumps(value) for key, value in notes.items()})


def _factors(module: nn.Module, rank: int, scale: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    weight: Any = module.weight
    down = torch.randn(rank, weight.shape[1], generator=rng) / weight.shape[1] ** 0.5
    return down, torch.randn(weight.shape[0], rank, generator=rng) * (STRENGTH / (3 * rank) ** 0.5 / scale)


@cache
def _slot(slot: int, rank: int, inputs: int) -> Tensor:
    return basis_rows(inputs, slot_rows(slot, rank, inputs))


def kohya_name(layer: str, pipeline: Pipeline) -> str:
    """Return what kohya's trainer calls a layer; on SDXL it counts the UNet's blocks as the first release did."""
    component, _, name = layer.partition(".")
    xl = hasattr(pipeline, "text_encoder_2")
    if component != "unet":
        prefix = {"text_encoder": "lora_te1" if xl else "lora_te", "text_encoder_2": "lora_te2"}[component]
        return f"{prefix}_{long_name(layer).partition('.')[2].replace('.', '_')}"
    if xl:
        name = re.sub(
            r"^down_blocks\.(\d)\.attentions\.(\d)", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.1", name
        )
        name = re.sub(r"^up_blocks\.(\d)\.attentions\.(\d)", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.1", name)
        name = re.sub(r"^mid_block\.attentions\.0", "middle_block.1", name)
    return f"lora_unet_{name.replace('.', '_')}"
