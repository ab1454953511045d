"""Stable Diffusion 3 and 3.5: a diffusion transformer with flow matching, two CLIP encoders and T5."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from generation.families.family import Family


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
    default_targets = (
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
        "attn.to_add_out",
    )  # fmt: skip

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
