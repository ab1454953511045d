"""Sana: linear attention on latents of a deep-compression autoencoder (32 px per element), with Gemma 2."""

import math
from types import MappingProxyType
from typing import Any

from torch import Tensor

from generation.families.native_names import NativeBlocks
from generation.families.pixart_sigma import ATTENTION, PixArtSigma


class Sana(PixArtSigma):
    """Sana (Xie et al. 2024): flow matching; prompts and sizes are passed as for PixArt-Sigma."""

    name = "sana"
    pipelines = ("SanaPipeline",)
    flow_matching = True
    example_scheduler = "FlowMatchEulerDiscreteScheduler"
    passes_sigmas = False
    native_blocks = (
        NativeBlocks(
            "blocks", "transformer_blocks",
            {
                **ATTENTION,
                "mlp.inverted_conv.conv": ("ff.conv_inverted",), "mlp.point_conv.conv": ("ff.conv_point",),
            },
        ),
    )  # fmt: skip
    native_ends = MappingProxyType(
        {
            "x_embedder.proj": ("patch_embed.proj",), "t_block.1": ("time_embed.linear",), "final_layer.linear": ("proj_out",),
            "t_embedder.mlp.0": ("time_embed.emb.timestep_embedder.linear_1",),
            "t_embedder.mlp.2": ("time_embed.emb.timestep_embedder.linear_2",),
            "y_embedder.y_proj.fc1": ("caption_projection.linear_1",),
            "y_embedder.y_proj.fc2": ("caption_projection.linear_2",),
        }
    )  # fmt: skip
    default_targets = ("to_q", "to_k", "to_v")

    def size_multiple(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return 32 px, which the pipeline requires, or more if the autoencoder or the patches need it."""
        return math.lcm(32, super().size_multiple(pipeline))

    def pack(self, pipeline: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
        """Return noise in float32, as the pipeline keeps its latents."""
        return noise


SANA = Sana()
