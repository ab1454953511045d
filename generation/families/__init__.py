"""Base-model families: one file each, and the registry that finds the family of a pipeline."""

from collections.abc import Mapping
from typing import Any

from evalkit.errors import UserError
from generation.families.family import Family
from generation.families.flux import FLUX
from generation.families.flux2 import FLUX2, FLUX2_KLEIN
from generation.families.hidream import HIDREAM
from generation.families.lumina2 import LUMINA2
from generation.families.pixart_sigma import PIXART_SIGMA
from generation.families.qwen_image import QWEN_IMAGE
from generation.families.sana import SANA
from generation.families.sd3 import SD3
from generation.families.stable_diffusion import SD15, SDXL
from generation.families.z_image import Z_IMAGE


def by_pipeline(*families: Family) -> Mapping[str, Family]:
    """Return families by the class name of their pipelines; two families of one pipeline or name are a mistake in the code."""
    registry: dict[str, Family] = {}
    for family in families:
        for pipeline in family.pipelines:
            if pipeline in registry:
                raise ValueError(f"two families have the pipeline {pipeline!r}")
            registry[pipeline] = family
    if len({family.name for family in families}) < len(families):
        raise ValueError("two families have the same name")
    return registry


FAMILIES: tuple[Family, ...] = (
    SD15, SDXL, SD3, FLUX, FLUX2, FLUX2_KLEIN, QWEN_IMAGE, Z_IMAGE, PIXART_SIGMA, SANA, LUMINA2, HIDREAM,
)  # fmt: skip
FAMILY_OF_PIPELINE = by_pipeline(*FAMILIES)


def find_family(pipeline_class: str, model: object) -> Family:
    """Return the family of a pipeline class; raise a UserError with the known classes if there is none."""
    family = FAMILY_OF_PIPELINE.get(pipeline_class)
    if family is None:
        raise UserError(f"{model}: contains a {pipeline_class}; give a model for {', '.join(FAMILY_OF_PIPELINE)}")
    return family


def family_of(pipeline: Any) -> Family:  # noqa: ANN401 - diffusers ships no types
    """Return the family of a loaded pipeline."""
    return find_family(type(pipeline).__name__, "the pipeline")


def denoiser(pipeline: Any) -> Any:  # noqa: ANN401
    """Return the denoiser of a pipeline: a UNet or a transformer."""
    return getattr(pipeline, family_of(pipeline).denoiser)


def in_denoiser(layer: str) -> bool:
    """Return whether a layer, named with its component, belongs to the denoiser and not to a text encoder."""
    return not layer.startswith("text_encoder")
