"""PixArt-Sigma: a diffusion transformer that predicts noise, with T5; diffusers has no LoRA loader for it."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from generation.families.family import Family
from generation.families.native_names import QKV, NativeBlocks, Renames, projections

ATTENTION = {
    "attn.qkv": projections("attn1", *QKV), "attn.proj": ("attn1.to_out.0",), "cross_attn.q_linear": ("attn2.to_q",),
    "cross_attn.kv_linear": projections("attn2", "to_k", "to_v"), "cross_attn.proj": ("attn2.to_out.0",),
}  # fmt: skip


class PixArtSigma(Family):
    """PixArt-Sigma (Chen et al. 2024). Prompts are not cleaned and sizes not rounded, so both are as stated."""

    name = "pixart_sigma"
    pipelines = ("PixArtSigmaPipeline",)
    flow_matching = False
    example_scheduler = "DPMSolverMultistepScheduler"
    native_blocks: ClassVar[tuple[NativeBlocks, ...]] = (
        NativeBlocks(
            "blocks", "transformer_blocks", {**ATTENTION, "mlp.fc1": ("ff.net.0.proj",), "mlp.fc2": ("ff.net.2",)}
        ),
    )  # fmt: skip
    native_ends: ClassVar[Renames] = MappingProxyType(
        {
            "x_embedder.proj": ("pos_embed.proj",), "t_block.1": ("adaln_single.linear",), "final_layer.linear": ("proj_out",),
            "t_embedder.mlp.0": ("adaln_single.emb.timestep_embedder.linear_1",),
            "t_embedder.mlp.2": ("adaln_single.emb.timestep_embedder.linear_2",),
            "y_embedder.y_proj.fc1": ("caption_projection.linear_1",),
            "y_embedder.y_proj.fc2": ("caption_projection.linear_2",),
        }
    )  # fmt: skip
    default_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")

    def size_multiple(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the factor of the VAE times the patch size."""
        return int(pipeline.vae_scale_factor) * int(pipeline.transformer.config.patch_size)

    def native_size(self, pipeline: Any) -> tuple[int, int]:  # noqa: ANN401
        """Return the transformer's sample size in pixels."""
        side = int(pipeline.transformer.config.sample_size) * int(pipeline.vae_scale_factor)
        return side, side

    def prompt_arguments(
        self,
        prompts: Sequence[str],
        negative: Sequence[str] | None,
        guidance: float,
        true_cfg_scale: float,
        clip_skip: int | None,
    ) -> dict[str, Any]:
        """Return the arguments with the pipeline's own empty negative prompt, exact sizes and unchanged prompts."""
        arguments = super().prompt_arguments(prompts, negative, guidance, true_cfg_scale, clip_skip)
        if negative is None:
            arguments["negative_prompt"] = ""
        return {**arguments, "clean_caption": False, "use_resolution_binning": False}


PIXART_SIGMA = PixArtSigma()
