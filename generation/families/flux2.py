"""FLUX.2 (dev) and FLUX.2 Klein: latents of 2 x 2 patches with 128 channels, one text encoder."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from generation.families.family import Family, GuidanceCalls
from generation.families.flux import DOUBLE_BLOCKS
from generation.families.native_names import NativeBlocks


class Flux2(Family):
    """FLUX.2 dev (Black Forest Labs 2025): `guidance` is an input of the denoiser, and there are no negative prompts."""

    name = "flux2"
    pipelines = ("Flux2Pipeline",)
    guidance_calls: ClassVar[GuidanceCalls] = "single"
    takes_negative_prompt = False
    blocks = ("transformer_blocks", "single_transformer_blocks")
    native_blocks = (
        NativeBlocks(
            "double_blocks", "transformer_blocks",
            {
                **DOUBLE_BLOCKS,
                "img_mlp.0": ("ff.linear_in",), "img_mlp.2": ("ff.linear_out",),
                "txt_mlp.0": ("ff_context.linear_in",), "txt_mlp.2": ("ff_context.linear_out",),
            },
        ),
        NativeBlocks(
            "single_blocks", "single_transformer_blocks",
            {"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)},
        ),
    )  # fmt: skip
    native_ends = MappingProxyType(
        {
            "img_in": ("x_embedder",), "txt_in": ("context_embedder",),
            **{
                f"{native}.{part}_layer": (f"time_guidance_embed.{own}_embedder.linear_{number}",)
                for native, own in (("time_in", "timestep"), ("guidance_in", "guidance"))
                for number, part in ((1, "in"), (2, "out"))
            },
            **{
                f"{name}.lin": (f"{name}.linear",)
                for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
            },
            "final_layer.linear": ("proj_out",), "final_layer.adaLN_modulation.1": ("norm_out.linear",),
        }
    )  # fmt: skip
    native_swapped = frozenset({"norm_out.linear"})
    default_targets = ("to_q", "to_k", "to_v", "to_out.0", "to_qkv_mlp_proj", "attn.to_out")

    def latent_factor(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return the factor of the VAE times the patch size."""
        return 2 * int(pipeline.vae_scale_factor)

    def scaled_latents(self, pipeline: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Return the VAE's latents as 2 x 2 patches, normalised by the VAE's batch norm."""
        patches = pipeline._patchify_latents(latents)
        norm = pipeline.vae.bn
        mean = norm.running_mean.view(1, -1, 1, 1).to(patches)
        deviation = (norm.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps).sqrt().to(patches)
        scaled: Tensor = (patches - mean) / deviation
        return scaled

    def unguided(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Return arguments for one call per step, at the scale of diffusers' training script."""
        return self.prompt_arguments(prompts, None, 3.5, 1.0, None)


class Flux2Klein(Flux2):
    """FLUX.2 Klein: the base models use classifier-free guidance in two calls, with an empty negative prompt."""

    name = "flux2_klein"
    pipelines = ("Flux2KleinPipeline",)
    guidance_calls = "sequential"

    def unguided(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Return arguments for one call per step."""
        return self.prompt_arguments(prompts, None, 1.0, 1.0, None)


FLUX2 = Flux2()
FLUX2_KLEIN = Flux2Klein()
