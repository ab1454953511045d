"""FLUX.1 (dev and schnell): the guidance scale is an input; latents are packed into tokens of 2 x 2."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from generation.families.family import Family, packed
from generation.families.native_names import ADDED_QKV, QKV, NativeBlocks, projections

IMAGE_QKV, TEXT_QKV = projections("attn", *QKV), projections("attn", *ADDED_QKV)
DOUBLE_BLOCKS = {
    "img_attn.qkv": IMAGE_QKV, "txt_attn.qkv": TEXT_QKV,
    "img_attn.proj": ("attn.to_out.0",), "txt_attn.proj": ("attn.to_add_out",),
    # XLabs' trainer names its LoRAs after attention processors
    "qkv_lora1": IMAGE_QKV, "qkv_lora2": TEXT_QKV, "proj_lora1": ("attn.to_out.0",), "proj_lora2": ("attn.to_add_out",),
}  # fmt: skip


class Flux(Family):
    """FLUX.1 (Black Forest Labs 2024). LoRA files may adapt the CLIP encoder, not T5.

    `guidance` is the distilled scale that dev takes as an input and schnell ignores. With `true_cfg_scale` above 1 and negative
    prompts the denoiser is called twice per step, for the prompts and then for the negative prompts.
    """

    name = "flux"
    pipelines = ("FluxPipeline",)
    tokenizers = MappingProxyType({"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"})
    # CLIP only contributes the pooled text
    token_limits = MappingProxyType({"tokenizer_2": 512})
    adaptable_text = ("text_encoder",)
    guidance_calls = "sequential"
    takes_true_cfg_scale = True
    blocks = ("transformer_blocks", "single_transformer_blocks")
    native_blocks = (
        NativeBlocks(
            "double_blocks", "transformer_blocks",
            {
                **DOUBLE_BLOCKS,
                "img_mod.lin": ("norm1.linear",), "txt_mod.lin": ("norm1_context.linear",),
                "img_mlp.0": ("ff.net.0.proj",), "img_mlp.2": ("ff.net.2",),
                "txt_mlp.0": ("ff_context.net.0.proj",), "txt_mlp.2": ("ff_context.net.2",),
            },
        ),
        NativeBlocks(
            "single_blocks", "single_transformer_blocks",
            {
                "linear1": (*IMAGE_QKV, "proj_mlp"), "linear1_qkv": IMAGE_QKV, "qkv": IMAGE_QKV, "linear2": ("proj_out",),
                "modulation.lin": ("norm.linear",),
            },
        ),
    )  # fmt: skip
    native_ends = MappingProxyType(
        {
            "img_in": ("x_embedder",), "txt_in": ("context_embedder",),
            **{
                f"{native}.{part}_layer": (f"time_text_embed.{own}_embedder.linear_{number}",)
                for native, own in (("time_in", "timestep"), ("vector_in", "text"), ("guidance_in", "guidance"))
                for number, part in ((1, "in"), (2, "out"))
            },
            "final_layer.linear": ("proj_out",), "final_layer.adaLN_modulation.1": ("norm_out.linear",),
        }
    )  # fmt: skip
    native_swapped = frozenset({"norm_out.linear"})
    default_targets = (
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
        "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    )  # fmt: skip

    def latent_channels(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return a quarter of the transformer's input channels, which hold 2 x 2 elements."""
        return int(pipeline.transformer.config.in_channels) // 4

    def pack(self, pipeline: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
        """Return noise as tokens of 2 x 2 elements."""
        return packed(noise).to(self.dtype(pipeline))

    def guided(self, guidance: float, true_cfg_scale: float, *, negative: bool) -> bool:
        """Return whether true classifier-free guidance runs."""
        return true_cfg_scale > 1 and negative

    def prompt_arguments(
        self,
        prompts: Sequence[str],
        negative: Sequence[str] | None,
        guidance: float,
        true_cfg_scale: float,
        clip_skip: int | None,
    ) -> dict[str, Any]:
        """Return both scales; negative prompts only if they are used."""
        arguments: dict[str, Any] = {"prompt": list(prompts), "guidance_scale": guidance, "true_cfg_scale": true_cfg_scale}
        if self.guided(guidance, true_cfg_scale, negative=negative is not None):
            arguments["negative_prompt"] = list(negative or ())
        return arguments

    def unguided(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Return arguments for one call per step, at the scale of diffusers' training scripts."""
        return self.prompt_arguments(prompts, None, 3.5, 1.0, None)

    def encode_unguided(self, pipeline: Any, prompts: Sequence[str]) -> None:  # noqa: ANN401
        """Run both text encoders on prompts once."""
        pipeline.encode_prompt(prompt=list(prompts), prompt_2=None, device=pipeline._execution_device)


FLUX = Flux()
