"""Tiny real pipelines and LoRA files with random weights, saved as files and loaded like the hub's."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from generation.pipeline import components

SIZE = 16
LETTERS = [chr(code) for code in range(33, 127)]


def tokenizer(length: int = 16) -> CLIPTokenizer:
    """Return a tokenizer of single letters that reads `length` tokens."""
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=numbers, merges=[], model_max_length=length)


def _text_config(words: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=words.model_max_length, projection_dim=16, bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1, pad_token_id=len(words) - 1,
    )  # fmt: skip


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def save_sdxl(folder: Path, seed: int = 0) -> Path:
    """Write an SDXL-shaped pipeline that draws 16 px images; return its folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = tokenizer()
        unet = UNet2DConditionModel(
            sample_size=SIZE // 2, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=16 + 6 * 8, cross_attention_dim=16 + 16,
            transformer_layers_per_block=(1, 1),
        )  # fmt: skip
        pipeline = StableDiffusionXLPipeline(
            vae=_vae(), unet=unet, scheduler=_scheduler(), tokenizer=words, tokenizer_2=words,
            text_encoder=CLIPTextModel(_text_config(words, 16)),
            text_encoder_2=CLIPTextModelWithProjection(_text_config(words, 16)), add_watermarker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def save_sd15(folder: Path, seed: int = 0) -> Path:
    """Write an SD-1.5-shaped pipeline (1x1 conv projections, one text encoder); return its folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = tokenizer()
        unet = UNet2DConditionModel(
            sample_size=SIZE // 2, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4, cross_attention_dim=16,
        )  # fmt: skip
        pipeline = StableDiffusionPipeline(
            vae=_vae(), unet=unet, scheduler=_scheduler(), tokenizer=words,
            text_encoder=CLIPTextModel(_text_config(words, 16)), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def _scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def adapted(pipeline: Any, pattern: str = r"to_(q|k|v|out\.0)$|[qkv]_proj$|out_proj$") -> dict[str, torch.nn.Module]:
    """Return the layers of all adaptable components whose name matches, by full name."""
    found = {}
    for component, part in components(pipeline).items():
        for name, module in part.named_modules():
            if re.search(pattern, name) and isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                found[f"{component}.{name}"] = module
    return found


def factors(module: torch.nn.Module, rank: int, generator: torch.Generator, size: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return random factors for a layer, as a LoRA file holds them: their product is about `size` in every entry."""
    inner = module.weight.shape[1:]
    tail = (1, 1) if isinstance(module, torch.nn.Conv2d) else ()
    down = torch.randn(rank, *inner, generator=generator) / rank**0.5
    return down, torch.randn(module.weight.shape[0], rank, *tail, generator=generator) * size


def save_peft_lora(path: Path, layers: Mapping[str, torch.nn.Module], rank: int, seed: int, size: float = 0.1) -> Path:
    """Write a LoRA in diffusers' own format, alpha = rank; return its path."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, module in layers.items():
        state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"] = factors(module, rank, generator, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path


def kohya_name(layer: str) -> str:
    """Return what kohya's trainer calls a layer."""
    component, _, name = layer.partition(".")
    prefix = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[component]
    if component != "unet" and not name.startswith(("text_model", "text_projection")):
        name = f"text_model.{name}"
    return f"{prefix}_{name.replace('.', '_')}"


def save_kohya_lora(
    path: Path, layers: Mapping[str, torch.nn.Module], ranks: Sequence[int], seed: int, size: float = 0.1
) -> Path:
    """Write a LoRA in kohya's format, ranks taken in turn, alpha = rank in every layer; return its path."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for place, (name, module) in enumerate(layers.items()):
        rank = ranks[place % len(ranks)]
        stem = kohya_name(name)
        state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"] = factors(module, rank, generator, size)
        state[f"{stem}.alpha"] = torch.tensor(float(rank))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path
