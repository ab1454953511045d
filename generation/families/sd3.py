"""Stable Diffusion 3 and 3.5: a diffusion transformer with flow matching, two CLIP encoders and T5."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from generation.families.family import Family
from generation.families.native_names import ADDED_QKV, QKV, NativeBlocks, NativeLayer, native_layers, projections


class StableDiffusion3(Family):
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024). LoRA files may adapt both CLIP encoders, not T5."""

    name = "sd3"
    pipelines = ("StableDiffusion3Pipeline",)
    tokenizers = MappingProxyType(
        {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}
    )
    token_limits = MappingProxyType({"tokenizer": None, "tokenizer_2": None, "tokenizer_3": 256})
    adaptable_text = ("text_encoder", "text_encoder_2")
    takes_clip_skip = True
    passes_sigmas = False
    native_blocks = (
        NativeBlocks(
            "joint_blocks", "transformer_blocks",
            {
                "x_block.attn.qkv": projections("attn", *QKV), "context_block.attn.qkv": projections("attn", *ADDED_QKV),
                "x_block.attn2.qkv": projections("attn2", *QKV),
                "x_block.attn.proj": ("attn.to_out.0",), "context_block.attn.proj": ("attn.to_add_out",),
                "x_block.attn2.proj": ("attn2.to_out.0",),
                "x_block.adaLN_modulation.1": ("norm1.linear",), "context_block.adaLN_modulation.1": ("norm1_context.linear",),
                "x_block.mlp.fc1": ("ff.net.0.proj",), "x_block.mlp.fc2": ("ff.net.2",),
                "context_block.mlp.fc1": ("ff_context.net.0.proj",), "context_block.mlp.fc2": ("ff_context.net.2",),
            },
        ),
    )  # fmt: skip
    native_swapped = frozenset({"norm_out.linear"})
    native_ends = MappingProxyType(
        {
            "context_embedder": ("context_embedder",), "x_embedder.proj": ("pos_embed.proj",),
            **{
                f"{native}.mlp.{place}": (f"time_text_embed.{own}_embedder.linear_{number}",)
                for native, own in (("t_embedder", "timestep"), ("y_embedder", "text"))
                for number, place in ((1, 0), (2, 2))
            },
            "final_layer.linear": ("proj_out",), "final_layer.adaLN_modulation.1": ("norm_out.linear",),
        }
    )  # fmt: skip
    default_targets = (
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
        "attn.to_add_out",
    )  # fmt: skip

    def native_layers(self, model: Any) -> list[NativeLayer]:  # noqa: ANN401
        """Return the layers of the original checkpoint; the last block modulates its context by scale and shift only."""
        last = f"transformer_blocks.{len(model.transformer_blocks) - 1}.norm1_context.linear"
        return native_layers(model, self.native_blocks, self.native_ends, self.native_swapped | {last})

    def size_multiple(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the factor of the VAE times the patch size."""
        return int(pipeline.vae_scale_factor) * int(pipeline.patch_size)

    def encode_unguided(self, pipeline: Any, prompts: Sequence[str]) -> None:  # noqa: ANN401
        """Run the three text encoders on prompts once."""
        device = pipeline._execution_device
        pipeline.encode_prompt(
            prompt=list(prompts), prompt_2=None, prompt_3=None, device=device, do_classifier_free_guidance=False
        )


SD3 = StableDiffusion3()
