"""Sana: linear attention on latents of a deep-compression autoencoder (32 px per element), with Gemma 2."""

import math
from typing import Any

from torch import Tensor

from generation.families.pixart_sigma import PixArtSigma


class Sana(PixArtSigma):
    """Sana (Xie et al. 2024): flow matching; prompts and sizes are passed as for PixArt-Sigma."""

    name = "sana"
    pipelines = ("SanaPipeline",)
    flow_matching = True
    example_scheduler = "FlowMatchEulerDiscreteScheduler"
    passes_sigmas = False
    default_targets = ("to_q", "to_k", "to_v")

    def size_multiple(self, pipeline: Any) -> int:  # noqa: ANN401
        """Return 32 px, which the pipeline requires, or more if the autoencoder or the patches need it."""
        return math.lcm(32, super().size_multiple(pipeline))

    def pack(self, pipeline: Any, noise: Tensor) -> Tensor:  # noqa: ANN401
        """Return noise in float32, as the pipeline keeps its latents."""
        return noise


SANA = Sana()
