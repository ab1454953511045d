"""The norm of our LoRA files that arrives in other programs, by family and format, against the published table."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generation.families import FAMILIES, denoiser, family_of
from generation.lora.export_names import ExportNames, FileFormat
from generation.lora.factors import Factors
from generation.lora.lora_writer import lora_writer
from generation.lora.readers import READERS, Reader
from generation.pipeline import Pipeline, components, quiet
from tests.key_maps import KEY_MAPS

# Tiny pipelines; FLUX.2 dev has the architecture and the loader of Klein.
NAMES = [family.name for family in FAMILIES if family.name != "flux2"]
FORMATS: tuple[FileFormat, ...] = ("kohya", "diffusers")
CASES = [
    pytest.param(reader, family, file_format, id=f"{reader.program}-{family}-{file_format}")
    for reader in READERS
    for file_format in FORMATS
    for family in reader.unread(file_format)
    if family != "flux2"
]


@pytest.fixture
def pipeline_of(request: pytest.FixtureRequest, built: Callable[[str], Pipeline]) -> Callable[[str], Pipeline]:
    return lambda name: request.getfixturevalue(name) if name in ("sd15", "sdxl") else built(name)


def write(pipeline: Pipeline, file_format: FileFormat, path: Path) -> Mapping[str, float]:
    """Write a LoRA on every linear layer of the denoiser that has a row per image; return squared norms by layer."""
    family, model = family_of(pipeline), denoiser(pipeline)
    names = ExportNames(file_format, components(pipeline), family.native_layers(model))
    rng, norms = torch.Generator().manual_seed(0), {}
    with lora_writer(path, names, torch.float32) as writer:
        for name, module in model.named_modules():
            if not isinstance(module, torch.nn.Linear) or ".experts." in name:
                continue
            factors = Factors(
                *(torch.randn(*shape, generator=rng) for shape in ((2, module.in_features), (module.out_features, 2)))
            )
            writer.add_factors(f"{family.denoiser}.{name}", factors)
            norms[name] = float(factors.dense().square().sum())
        writer.write({})
    return norms


def loaded_by_diffusers(pipeline: Pipeline, path: Path) -> float:
    """Return the squared norm of the adapters that diffusers makes of a file."""
    with quiet():
        pipeline.load_lora_weights(path, adapter_name="arrived")
    try:
        modules = [module for module in denoiser(pipeline).modules() if "arrived" in getattr(module, "lora_A", ())]
        changes = [m.lora_B["arrived"].weight @ m.lora_A["arrived"].weight * m.scaling["arrived"] for m in modules]
        return sum(float(change.detach().square().sum()) for change in changes)
    finally:
        pipeline.unload_lora_weights()


def found_by_map(reader: Reader, pipeline: Pipeline, file_format: FileFormat, path: Path) -> float:
    """Return the squared norm in the entries whose names the program finds."""
    finds, state, arrived = KEY_MAPS[reader.program](pipeline, file_format), load_file(path), 0.0
    first, second = (".lora_down.weight", ".lora_up.weight") if file_format == "kohya" else (".lora_A.weight", ".lora_B.weight")
    for key in state:
        if key.endswith(second) and finds(stem := key.removesuffix(second)):
            arrived += float((state[key] @ state[stem + first]).square().sum())
    return arrived


@pytest.mark.filterwarnings("ignore")  # diffusers' and peft's remarks on files of which nothing arrives
@pytest.mark.parametrize(("reader", "family", "file_format"), CASES)
def test_the_norm_that_the_table_states_arrives(
    reader: Reader, family: str, file_format: FileFormat, pipeline_of: Callable[[str], Pipeline], tmp_path: Path
) -> None:
    pipeline, path = pipeline_of(family), tmp_path / "x.safetensors"
    norms, pattern = write(pipeline, file_format, path), reader.unread(file_format)[family]
    expected = sum(norm for name, norm in norms.items() if not (pattern and re.search(pattern, name)))
    if reader.program == "diffusers":
        arrived = loaded_by_diffusers(pipeline, path)
    else:
        arrived = found_by_map(reader, pipeline, file_format, path)
    assert arrived == pytest.approx(expected, rel=1e-4), f"{arrived / sum(norms.values()):.4f} arrives"


def test_every_family_is_read_completely_by_a_program_with_a_map() -> None:
    for name in NAMES:
        assert any(reader.unread(file_format).get(name) == "" for reader in READERS for file_format in FORMATS), name


def test_the_table_names_programs_that_have_a_map() -> None:
    assert {reader.program for reader in READERS} == {"diffusers", *KEY_MAPS}
    known = {family.name for family in FAMILIES}
    assert all(set(reader.unread(file_format)) <= known for reader in READERS for file_format in FORMATS)
