"""Base-model families: each on a tiny pipeline, against plain diffusers and its own statements."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from evalkit.errors import UserError
from generation.experiment import CaseSpec
from generation.experiment_file import read_experiment
from generation.families import FAMILIES, FAMILY_OF_PIPELINE, by_pipeline, denoiser, family_of, find_family
from generation.merge.setup import module_of
from generation.pipeline import Pipeline, load_pipeline, quiet
from generation.sampler import ImageRequest, Sampler
from generation.seeds import noise_sha256, step_generator
from tests.tiny import save_peft_lora
from tests.tiny_families import NOT_BUILT, save_family

BUILT = [family.name for family in FAMILIES if family.name not in NOT_BUILT]
# SD 1.5 and SDXL have further tests of their own.
TRANSFORMERS = [name for name in BUILT if name not in ("sd15", "sdxl")]
EVERY_FAMILY = pytest.mark.parametrize("name", BUILT)
EVERY_TRANSFORMER = pytest.mark.parametrize("name", TRANSFORMERS)
# Families that diffusers merges by `set_adapters`; PixArt-Sigma has no LoRA loader in diffusers.
LOADERS = [name for name in TRANSFORMERS if name != "pixart_sigma"]
PIXELS = {"sana": 32, "lumina2": 32}
# Families whose images may differ by one level of 255 between batches, as docs/generation.md states.
BATCH_DEPENDENT = ("lumina2",)
GUIDANCE = {"flux": 3.5}
EXPERIMENT = """
[base]
model = "{name}"

[sampling]
steps = 3
guidance = {guidance}
width = {pixels}
height = {pixels}
{more}

[[concepts]]
name = "star"
words = "star"
class_word = "s"
adapter = "star.safetensors"

[[concepts]]
name = "ring"
words = "ring"
class_word = "r"
adapter = "ring.safetensors"
weight = 0.8

[[arms]]
label = "direct"
method = "direct"

[[arms]]
label = "masked"
method = "orthogonal_mc_dropout"

[[arms]]
label = "steps"
method = "lora_composite"

[cases_from]
choose = 2
template = ["{{0}} {{1}}", "a {{0}} and {{1}}"]
negative_prompt = "bad"
seeds = 2
"""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a folder with the family's tiny pipeline, two LoRAs on its attention, and an experiment file."""
    root = tmp_path_factory.mktemp("families")

    def world(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            folder.mkdir()
            save_family(name, folder / name)
            pipeline = load_pipeline(folder / name)
            for seed, lora in enumerate(("star", "ring")):
                save_peft_lora(folder / f"{lora}.safetensors", attention(pipeline, seed), rank=2 + seed, seed=seed, size=1.0)
            text = EXPERIMENT.format(name=name, guidance=GUIDANCE.get(name, 4.0), pixels=PIXELS.get(name, 16), more="")
            (folder / "experiment.toml").write_text(text)
        return folder

    return world


def attention(pipeline: Pipeline, seed: int = 0) -> dict[str, torch.nn.Module]:
    """Return linear layers of the denoiser's attention: the queries and values, or for another seed the keys as well."""
    ends = ("to_q", "to_v") if seed == 0 else ("to_q", "to_k", "to_v")
    name = family_of(pipeline).denoiser
    return {
        f"{name}.{layer}": module
        for layer, module in denoiser(pipeline).named_modules()
        if layer.rpartition(".")[2] in ends and isinstance(module, torch.nn.Linear)
    }


def sampler_of(folder: Path) -> Sampler:
    return Sampler(read_experiment(folder / "experiment.toml"), folder, torch.device("cpu"))


def generated(sampler: Sampler, label: str, requests: list[ImageRequest]) -> list[NDArray[np.uint8]]:
    arm = next(arm for arm in sampler.experiment.arms if arm.label == label)
    with sampler.merged(arm, ("star", "ring")):
        return sampler.generate(requests)


def arguments(sampler: Sampler, case: CaseSpec, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments of a call of plain diffusers for one case."""
    sampling, family = sampler.experiment.sampling, sampler.family
    negative = [case.negative_prompt or ""] * len(seeds)
    return {
        **family.prompt_arguments([case.prompt] * len(seeds), negative, sampling.guidance, sampling.true_cfg_scale, None),
        "num_inference_steps": sampling.steps,
        "width": sampling.width,
        "height": sampling.height,
        "latents": family.pack(sampler.pipeline, torch.stack([sampler.noise(seed) for seed in seeds])),
        "generator": [step_generator(seed) for seed in seeds],
        "output_type": "np",
    }


def test_every_family_is_built_or_named_with_its_reason() -> None:
    assert len(NOT_BUILT) == 1
    assert set(BUILT) | set(NOT_BUILT) == {family.name for family in FAMILIES}
    assert {pipeline for family in FAMILIES for pipeline in family.pipelines} == set(FAMILY_OF_PIPELINE)


def test_two_families_of_one_pipeline_are_refused() -> None:
    with pytest.raises(ValueError, match="two families have the pipeline 'StableDiffusionPipeline'"):
        by_pipeline(FAMILIES[0], FAMILIES[0])


def test_an_unknown_pipeline_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    with pytest.raises(UserError, match="contains a WanPipeline; give a model for StableDiffusionPipeline, "):
        load_pipeline(tmp_path)
    with pytest.raises(UserError, match="the model: contains a KolorsPipeline"):
        find_family("KolorsPipeline", "the model")


@EVERY_TRANSFORMER
def test_our_noise_is_the_pipeline_s_own(name: str, worlds: Callable[[str], Path]) -> None:
    sampler = sampler_of(worlds(name))
    given = arguments(sampler, sampler.experiment.cases[0], (0, 1))
    sampler.family.set_size(sampler.pipeline, given["width"], given["height"])
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    with quiet():
        ours = sampler.pipeline(**given).images
        own = sampler.pipeline(**{**given, "latents": None, "generator": generators}).images
    sampler.close()
    assert np.array_equal(ours, own)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
@pytest.mark.parametrize("name", LOADERS)
def test_direct_equals_set_adapters(name: str, worlds: Callable[[str], Path]) -> None:
    """`set_adapters` adds two outputs where a folded merge adds one change of the weight: equal up to rounding."""
    folder = worlds(name)
    sampler = sampler_of(folder)
    case = sampler.experiment.cases[0]
    ours = generated(sampler, "direct", [ImageRequest(case, seed) for seed in (0, 1)])
    base = sampler.pipeline
    sampler.family.set_size(base, sampler.experiment.sampling.width, sampler.experiment.sampling.height)
    given = arguments(sampler, case, (0, 1))
    sampler.close()
    with quiet():
        plain = base(**given).images
        for lora in ("ring", "star"):
            base.load_lora_weights(folder, weight_name=f"{lora}.safetensors", adapter_name=lora)
        base.set_adapters(["ring", "star"], [0.8, 1.0])
        theirs = base(**given).images
    levels = np.abs(np.stack(ours).astype(int) - np.round(theirs * 255)).max()
    moved = np.abs(np.round(plain * 255) - np.round(theirs * 255)).max()
    assert levels <= 1 < moved


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_direct_equals_an_injection_through_peft_on_pixart(worlds: Callable[[str], Path]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    folder = worlds("pixart_sigma")
    sampler = sampler_of(folder)
    case = sampler.experiment.cases[0]
    ours = generated(sampler, "direct", [ImageRequest(case, 0)])
    loras = {name: sampler.lora(name) for name in ("ring", "star")}
    given = arguments(sampler, case, (0,))
    sampler.close()
    module = sampler.pipeline.transformer
    for name, weight in (("ring", 0.8), ("star", 1.0)):
        factors = {layer.partition(".")[2]: part for layer, part in loras[name].factors.items()}
        rank = next(iter(factors.values())).rank
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=weight * rank, target_modules=sorted(factors)), module, name)
        for layer, part in factors.items():
            adapted: Any = module.get_submodule(layer)
            adapted.lora_A[name].weight.data, adapted.lora_B[name].weight.data = part.down.clone(), part.up.clone()
    for layer in module.modules():
        if hasattr(layer, "set_adapter") and hasattr(layer, "lora_A"):
            layer.set_adapter([name for name in ("ring", "star") if name in layer.lora_A])
    with quiet():
        theirs = sampler.pipeline(**given).images
    assert np.abs(ours[0].astype(int) - np.round(theirs[0] * 255)).max() <= 1


@EVERY_TRANSFORMER
@pytest.mark.parametrize("label", ["direct", "masked", "steps"])
def test_an_image_has_the_same_bytes_alone_and_in_a_batch(name: str, label: str, worlds: Callable[[str], Path]) -> None:
    sampler = sampler_of(worlds(name))
    requests = [ImageRequest(case, seed) for case in sampler.experiment.cases for seed in (0, 1)]
    together = generated(sampler, label, requests)
    alone = [generated(sampler, label, [request])[0] for request in requests]
    sampler.close()
    differences = [np.abs(one.astype(int) - other).max() for one, other in zip(alone, together, strict=True)]
    assert max(differences) <= (1 if name in BATCH_DEPENDENT else 0)
    assert len({image.tobytes() for image in together}) == len(together)


@EVERY_TRANSFORMER
def test_noise_depends_on_the_seed_alone(name: str, worlds: Callable[[str], Path]) -> None:
    first, second = sampler_of(worlds(name)), sampler_of(worlds(name))
    hashes = [noise_sha256(sampler.noise(seed)) for sampler in (first, second) for seed in (0, 1)]
    first.close()
    second.close()
    assert hashes[:2] == hashes[2:]
    assert hashes[0] != hashes[1]


@EVERY_TRANSFORMER
def test_orthogonal_masks_have_exact_zeros_and_fit_the_guidance(name: str, worlds: Callable[[str], Path]) -> None:
    """In each call: no element belongs to two LoRAs, and masks of the halves differ unless the options share them."""
    sampler = sampler_of(worlds(name))
    case = sampler.experiment.cases[0]
    layer = next(iter(attention(sampler.pipeline)))
    calls: dict[str, list[tuple[list[tuple[int, int]], Tensor]]] = {}
    for cfg in ("independent", "shared"):
        parameters = {"p": 0.5, "cfg": cfg}
        arm = sampler.experiment.arms[1].model_copy(update={"parameters": parameters})
        rows: list[tuple[list[tuple[int, int]], Tensor]] = []

        def keep(name: str, outputs: list[Tensor], gains: list[Tensor], rows: list[Any] = rows) -> None:
            first, second = (output * gain for output, gain in zip(outputs, gains, strict=True)) if len(gains) == 2 else (0, 0)
            assert float((first * second).abs().sum() if len(gains) == 2 else 0) == 0
            if name == layer:
                count = len(gains[0])
                for images in (1, 2):
                    try:
                        keys = sampler.state.rows(sampler.family.denoiser, images)
                    except ValueError:
                        continue
                    if count % images == 0 and images == expected(sampler):
                        rows.append((keys, torch.stack([gain.view(images, -1) for gain in gains], dim=1)))

        with sampler.merged(arm, ("star", "ring"), keep):
            sampler.generate([ImageRequest(case, 0)])
        calls[cfg] = rows
    sampler.close()
    guided = sampler.family.guided(sampler.experiment.sampling.guidance, 1.0, negative=True)
    for cfg, rows in calls.items():
        halves: dict[int, list[Tensor]] = {0: [], 1: []}
        for keys, masks in rows:
            for (_, half), mask in zip(keys, masks, strict=True):
                halves[half].append(mask)
        assert len(halves[1]) == 3
        assert len(halves[0]) == (3 if guided else 0)
        assert not torch.equal(halves[1][0], halves[1][1])
        for first, second in zip(halves[1], halves[0], strict=False):
            assert torch.equal(first, second) == (cfg == "shared")


def expected(sampler: Sampler) -> int:
    """Return the rows of a call for one image."""
    family = sampler.family
    guided = family.guided(sampler.experiment.sampling.guidance, 1.0, negative=True)
    return 2 if guided and family.guidance_calls == "batched" else 1


@EVERY_TRANSFORMER
def test_hooks_equal_folded_weights(name: str, worlds: Callable[[str], Path]) -> None:
    """A composite of one LoRA alone is that LoRA; hooks add it at every call, `direct` folds it."""
    sampler = sampler_of(worlds(name))
    request = ImageRequest(sampler.experiment.cases[0], 0)
    images = []
    for label in ("direct", "steps"):
        arm = next(arm for arm in sampler.experiment.arms if arm.label == label)
        with sampler.merged(arm, ("ring",)):
            images.append(sampler.generate([request])[0].astype(int))
    sampler.close()
    assert np.abs(images[0] - images[1]).max() <= 1


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.flow_matching and family.name in BUILT])
@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DDIMScheduler"])
def test_a_flow_family_refuses_schedulers_of_another_prediction(
    name: str, scheduler: str, worlds: Callable[[str], Path]
) -> None:
    """SD3 and Sana would run with them, with the wrong prediction."""
    folder = worlds(name)
    path = folder / f"{scheduler}.toml"
    text = (folder / "experiment.toml").read_text()
    path.write_text(text.replace("[sampling]", f'scheduler = "{scheduler}"\n[sampling]', 1))
    with pytest.raises(UserError, match=r"base\.scheduler: .*(does not predict flows|does not fit the settings)"):
        Sampler(read_experiment(path), folder, torch.device("cpu"))


def test_prompt_lists_of_the_caller_stay(worlds: Callable[[str], Path]) -> None:
    """Z-Image writes its chat template into the lists it is given."""
    sampler = sampler_of(worlds("z_image"))
    prompts, negative = ["star"], ["bad"]
    given = sampler.family.prompt_arguments(prompts, negative, 4.0, 1.0, None)
    with quiet():
        sampler.pipeline(**given, num_inference_steps=1, width=16, height=16, output_type="latent")
    sampler.close()
    assert (prompts, negative) == (["star"], ["bad"])


@pytest.mark.parametrize(("name", "pixels"), [("sana", 24), ("flux", 18), ("sd3", 15)])
def test_a_size_that_a_family_can_not_generate_is_refused(name: str, pixels: int, worlds: Callable[[str], Path]) -> None:
    folder = worlds(name)
    path = folder / "size.toml"
    old = PIXELS.get(name, 16)
    path.write_text((folder / "experiment.toml").read_text().replace(f"width = {old}", f"width = {pixels}"))
    with pytest.raises(UserError, match=r"sampling(\.width)?: "):
        Sampler(read_experiment(path), folder, torch.device("cpu"))


def test_true_guidance_of_flux_calls_the_denoiser_for_prompts_first(worlds: Callable[[str], Path]) -> None:
    folder = worlds("flux")
    path = folder / "true.toml"
    text = (folder / "experiment.toml").read_text()
    path.write_text(text.replace("guidance = 3.5", "guidance = 3.5\ntrue_cfg_scale = 2.0"))
    sampler = Sampler(read_experiment(path), folder, torch.device("cpu"))
    halves: list[tuple[int, ...]] = []
    layer = module_of(sampler.pipeline, next(iter(attention(sampler.pipeline))))
    hook = layer.register_forward_hook(
        lambda module, args, output: halves.append(tuple(half for _, half in sampler.state.rows("transformer", len(args[0]))))
    )
    sampler.generate([ImageRequest(sampler.experiment.cases[0], 0)])
    hook.remove()
    sampler.close()
    assert halves == [(1,), (0,)] * 3
