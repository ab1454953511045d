"""FLUX.1 (dev and schnell): the guidance scale is an input; latents are packed into tokens of 2 x 2."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from generation.families.family import Family, packed


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
