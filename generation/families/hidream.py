"""HiDream-I1: a sparse mixture-of-experts transformer with two CLIP encoders, T5 and Llama."""

from types import MappingProxyType
from typing import Any

from generation.families.family import Family


class HiDream(Family):
    """HiDream-I1 (Cai et al. 2025). The experts receive tokens of the whole batch, without a row per image."""

    name = "hidream"
    pipelines = ("HiDreamImagePipeline",)
    tokenizers = MappingProxyType(
        {
            "text_encoder": "tokenizer",
            "text_encoder_2": "tokenizer_2",
            "text_encoder_3": "tokenizer_3",
            "text_encoder_4": "tokenizer_4",
        }
    )
    token_limits = MappingProxyType({"tokenizer_3": 128, "tokenizer_4": 128})
    rowless = (".experts.",)
    blocks = ("double_stream_blocks", "single_stream_blocks")
    default_targets = ("to_q", "to_k", "to_v", "to_out")

    def set_size(self, pipeline: Any, width: int, height: int) -> None:  # noqa: ANN401
        """Set the area to which the pipeline scales width and height, so that both stay."""
        pipeline.default_sample_size = (width * height) ** 0.5 * (1 + 1e-6) / pipeline.vae_scale_factor


HIDREAM = HiDream()
