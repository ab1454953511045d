"""Lumina-Image 2.0: a single-stream transformer with Gemma 2, guidance in two calls with a rescaled norm."""

from generation.families.family import Family


class Lumina2(Family):
    """Lumina-Image 2.0 (Qin et al. 2025). The denoiser is called for the prompts, then for the negative prompts.

    The denoiser joins each image with its own text and pads both to the longest of a batch.
    """

    name = "lumina2"
    pipelines = ("Lumina2Pipeline",)
    guidance_calls = "sequential"
    pads_to_longest = True
    blocks = ("noise_refiner", "context_refiner", "layers")


LUMINA2 = Lumina2()
