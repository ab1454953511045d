"""Z-Image: a single-stream transformer that receives a list of images, guided rows first."""

from types import MappingProxyType
from typing import Any

from torch import Tensor

from generation.families.family import Family
from generation.families.native_names import QKV, NativeBlocks, projections

BLOCK = {"attention.qkv": projections("attention", *QKV), "attention.out": ("attention.to_out.0",)}


class ZImage(Family):
    """Z-Image (Tongyi 2025). Its scale is the usual one minus 1, so guidance is active above 0.

    Prompts are padded to the longest of a batch. The embedders of images and captions receive all tokens of a batch in one
    matrix, without a row per image.
    """

    name = "z_image"
    pipelines = ("ZImagePipeline",)
    guided_first = True
    guidance_threshold = 0.0
    pads_to_longest = True
    rowless = ("all_x_embedder", "cap_embedder")
    blocks = ("noise_refiner", "context_refiner", "layers")
    native_blocks = tuple(NativeBlocks(name, name, BLOCK) for name in ("layers", "noise_refiner", "context_refiner"))
    native_ends = MappingProxyType(
        {
            "x_embedder": ("all_x_embedder.2-1",), "final_layer.linear": ("all_final_layer.2-1.linear",),
            "final_layer.adaLN_modulation.1": ("all_final_layer.2-1.adaLN_modulation.1",),
        }
    )  # fmt: skip
    passes_sigmas = False
    passes_mu = True

    def native_size(self, pipeline: Any) -> tuple[int, int]:  # noqa: ANN401
        """Return 128 elements per side: 1024 px with the VAE's factor of 8, the pipeline's default."""
        side = 128 * int(pipeline.vae_scale_factor)
        return side, side

    def pack(self, pipeline: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
        """Return noise in float32, as the pipeline keeps its latents."""
        return noise


Z_IMAGE = ZImage()
