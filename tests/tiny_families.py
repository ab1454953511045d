"""Tiny pipelines of every base-model family with random weights, saved as files and loaded like the hub's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from tests.tiny import _text_config, save_sd15, save_sdxl, tokenizer

TEXT = 16
BYTES = [
    *(chr(code) for code in range(33, 127)),
    *(chr(code) for code in range(161, 173)),
    *(chr(code) for code in range(174, 324)),
]


def _kl(channels: int, stages: int = 2, **options: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8,) * stages, layers_per_block=1, norm_num_groups=4, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * stages, up_block_types=("UpDecoderBlock2D",) * stages,
        use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.4, **options,
    )  # fmt: skip


def _flow(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, **options)


def _dynamic() -> FlowMatchEulerDiscreteScheduler:
    return _flow(use_dynamic_shifting=True, base_image_seq_len=256, max_image_seq_len=4096)


def _letters(template: bool = False) -> Any:
    """Return a fast tokenizer of single letters for encoders other than CLIP, optionally with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<unk>", "</s>", "<bos>", *(chr(code) for code in range(32, 127))]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    inner = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", bos_token="<bos>", model_max_length=512
    )
    if template:
        made.chat_template = (
            "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}"
            "{% else %}{{ message['content'][0]['text'] }}{% endif %}{% endfor %}"
        )
    return made


def _bytes_tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {character: number for number, character in enumerate([*BYTES, *special])}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    made.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return made


def _clip(words: CLIPTokenizer) -> Any:
    return CLIPTextModelWithProjection(_text_config(words, TEXT))


def _clip_plain(words: CLIPTokenizer) -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel(_text_config(words, TEXT))


def _t5(size: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=110, d_model=32, d_kv=8, d_ff=16, num_layers=2, num_heads=4, decoder_start_token_id=0)
    return T5EncoderModel(config).eval()


def _gemma(width: int) -> Any:
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(
        Gemma2Config(
            vocab_size=110, hidden_size=width, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=4, pad_token_id=0, eos_token_id=2, bos_token_id=3,
        )
    )  # fmt: skip


def _flux() -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    words = tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=TEXT, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return FluxPipeline(
        scheduler=_dynamic(), vae=_kl(4), text_encoder=_clip_plain(words), tokenizer=words, text_encoder_2=_t5(32),
        tokenizer_2=_letters(), transformer=transformer,
    )  # fmt: skip


def _sd3() -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    words = tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, pos_embed_max_size=32,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=_flow(), vae=_kl(4), text_encoder=_clip(words), tokenizer=words,
        text_encoder_2=_clip(words), tokenizer_2=words, text_encoder_3=_t5(32), tokenizer_3=_letters(),
    )  # fmt: skip


def _qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    size = len(BYTES) + 3
    text = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "vocab_size": size, "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0, "pad_token_id": size - 3, "bos_token_id": size - 3, "eos_token_id": size - 1,
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        "fullatt_block_indexes": [0], "window_size": 28,
    }  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def _qwen_image() -> Any:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False], latents_mean=[0.1] * 4,
        latents_std=[1.5] * 4,
    )  # fmt: skip
    return QwenImagePipeline(
        scheduler=_dynamic(), vae=vae, text_encoder=_qwen_vl(), tokenizer=_bytes_tokenizer(), transformer=transformer
    )


def _qwen3(layers: int = 2) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = len(BYTES) + 3
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=size, hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=2,
            num_key_value_heads=2, head_dim=8, pad_token_id=size - 3, bos_token_id=size - 3, eos_token_id=size - 1,
        )
    )  # fmt: skip


def _flux2_transformer(guidance: bool) -> Any:
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=256, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guidance,
    )  # fmt: skip


def _flux2_vae() -> Any:
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=1, latent_channels=1, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _flux2_klein() -> Any:
    from diffusers import Flux2KleinPipeline

    return Flux2KleinPipeline(
        scheduler=_dynamic(), vae=_flux2_vae(), text_encoder=_qwen3(27), tokenizer=_bytes_tokenizer(),
        transformer=_flux2_transformer(False),
    )  # fmt: skip


def _z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[256, 64, 64],
    )  # fmt: skip
    with torch.no_grad():
        transformer.x_pad_token.normal_()
        transformer.cap_pad_token.normal_()
    return ZImagePipeline(
        scheduler=_flow(), vae=_kl(4), text_encoder=_qwen3().model, tokenizer=_bytes_tokenizer(), transformer=transformer
    )


def _pixart_sigma() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=32,
        in_channels=4, cross_attention_dim=16, out_channels=8, norm_type="ada_norm_single", use_additional_conditions=False,
    )  # fmt: skip
    return PixArtSigmaPipeline(
        tokenizer=_letters(), text_encoder=_t5(32), vae=_kl(4), transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


def _sana() -> Any:
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8, sample_size=16,
    )  # fmt: skip
    vae = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    return SanaPipeline(scheduler=_flow(), vae=vae, text_encoder=_gemma(8), tokenizer=_letters(), transformer=transformer)


def _lumina2() -> Any:
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=4, patch_size=2, in_channels=4, hidden_size=8, num_layers=1, num_attention_heads=1, num_kv_heads=1,
        multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(512, 128, 128), cap_feat_dim=8, num_refiner_layers=1,
    )  # fmt: skip
    return Lumina2Pipeline(
        scheduler=_dynamic(), vae=_kl(4, 4), text_encoder=_gemma(8), tokenizer=_letters(), transformer=transformer
    )


def _hidream() -> Any:
    from diffusers import HiDreamImagePipeline, HiDreamImageTransformer2DModel
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(128)
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_channels=[32, 16], text_emb_dim=32, num_routed_experts=2, num_activated_experts=1,
        axes_dims_rope=(4, 2, 2), max_resolution=(32, 32), llama_layers=(0, 1), force_inference_output=True,
    )  # fmt: skip
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=110, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, pad_token_id=0, bos_token_id=3, eos_token_id=2,
        )
    )  # fmt: skip
    return HiDreamImagePipeline(
        scheduler=_flow(), vae=_kl(4), text_encoder=_clip(words), tokenizer=words, text_encoder_2=_clip(words),
        tokenizer_2=words, text_encoder_3=_t5(32), tokenizer_3=_letters(), text_encoder_4=llama, tokenizer_4=_letters(),
        transformer=transformer,
    )  # fmt: skip


BUILDERS: Mapping[str, Callable[[], Any]] = {
    "sd3": _sd3,
    "flux": _flux,
    "flux2_klein": _flux2_klein,
    "qwen_image": _qwen_image,
    "z_image": _z_image,
    "pixart_sigma": _pixart_sigma,
    "sana": _sana,
    "lumina2": _lumina2,
    "hidream": _hidream,
}
# Families without a tiny pipeline, with the reason.
NOT_BUILT = {
    "flux2": "its text encoder Mistral 3 needs an image processor's files; flux2_klein has the same denoiser, VAE and latents"
}


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the tiny pipeline of a family; return its folder."""
    if name in ("sd15", "sdxl"):
        return (save_sd15 if name == "sd15" else save_sdxl)(folder, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = BUILDERS[name]()
    pipeline.save_pretrained(folder)
    return folder
