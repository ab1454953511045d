"""Lumina-Image 2.0: a single-stream transformer with Gemma 2, guidance in two calls with a rescaled norm."""

from types import MappingProxyType

from generation.families.family import Family
from generation.families.native_names import QKV, NativeBlocks, projections

BLOCK = {
    "attention.qkv": projections("attn", *QKV), "attention.out": ("attn.to_out.0",), "adaLN_modulation.1": ("norm1.linear",),
    **{f"feed_forward.w{number}": (f"feed_forward.linear_{number}",) for number in (1, 2, 3)},
}  # fmt: skip


class Lumina2(Family):
    """Lumina-Image 2.0 (Qin et al. 2025). The denoiser is called for the prompts, then for the negative prompts.

    The denoiser joins each image with its own text and pads both to the longest of a batch.
    """

    name = "lumina2"
    pipelines = ("Lumina2Pipeline",)
    guidance_calls = "sequential"
    pads_to_longest = True
    blocks = ("noise_refiner", "context_refiner", "layers")
    native_blocks = tuple(NativeBlocks(name, name, BLOCK) for name in blocks)
    native_ends = MappingProxyType(
        {
            "cap_embedder.1": ("time_caption_embed.caption_embedder.1",),
            "t_embedder.mlp.0": ("time_caption_embed.timestep_embedder.linear_1",),
            "t_embedder.mlp.2": ("time_caption_embed.timestep_embedder.linear_2",),
            "final_layer.adaLN_modulation.1": ("norm_out.linear_1",), "final_layer.linear": ("norm_out.linear_2",),
        }
    )  # fmt: skip


LUMINA2 = Lumina2()
