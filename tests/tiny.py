"""Tiny real pipelines with random weights, saved as folders and loaded like the hub's."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SIZE = 16
LETTERS = [chr(code) for code in range(33, 127)]


def tokenizer() -> CLIPTokenizer:
    """Return a tokenizer of single letters, 16 tokens long."""
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=16)


def _text_config(words: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=16, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
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
