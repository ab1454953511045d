"""A merge as one file: plain diffusers draws from it what the arm drew, and the file says what it is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file
from generation.experiment import Experiment
from generation.experiment_file import read_experiment
from generation.lora.export_names import ExportNames, common_format
from generation.lora.factors import Factors
from generation.lora.layer_names import original_names
from generation.lora.lora_file import load_lora
from generation.lora.lora_writer import lora_writer
from generation.merge.command import Format, Precision, merge
from generation.merge.export import choose
from generation.pipeline import Pipeline, components, load_pipeline, quiet
from generation.run import generate
from generation.sampler import ImageRequest, Sampler
from tests.merging import same
from tests.tiny import adapted, factors

Write = Callable[..., Path]
ARMS = """
[[arms]]
label = "{label}"
method = "{method}"
parameters = {parameters}
"""
# Levels of 255 by which a pixel may differ: sums of other order round otherwise, in LoRA layers and in folded weights.
LEVELS = 1


def with_arm(method: str, parameters: str = "{}") -> tuple[str, str]:
    return "[cases_from]", ARMS.format(label="wanted", method=method, parameters=parameters) + "\n[cases_from]"


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads((file.metadata() or {})["evalkit"])
        return found


def drawn(experiment: Experiment, folder: Path) -> np.ndarray[Any, Any]:
    """Return what evalkit draws for the arm `wanted`, case star-ring and seed 0."""
    sampler = Sampler(experiment, folder, torch.device("cpu"))
    arm, case = choose(experiment, "wanted", "star-ring")
    with sampler.merged(arm, case.concepts):
        (image,) = sampler.generate([ImageRequest(case, 0)])
    sampler.close()
    return image


def drawn_plainly(pipeline: Pipeline, experiment: Experiment) -> np.ndarray[Any, Any]:
    from generation.seeds import initial_noise

    case, sampling = choose(experiment, "wanted", "star-ring")[1], experiment.sampling
    with quiet():
        image = pipeline(
            prompt=case.prompt, negative_prompt=case.negative_prompt, num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance, width=16, height=16, latents=initial_noise(0, (4, 8, 8))[None], output_type="np",
        ).images[0]  # fmt: skip
    return np.round(image * 255).astype(np.uint8)


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(
    ("method", "parameters", "rank", "file_format"),
    [
        ("direct", "{}", None, Format.KOHYA),
        ("np_lora", "{}", None, Format.DIFFUSERS),
        ("ties", "{ density = 0.9 }", 99, None),
        ("orthogonal_mc_dropout", '{ preset = "static" }', None, Format.DIFFUSERS),
    ],
)
def test_plain_diffusers_draws_from_the_file_what_the_arm_drew(
    method: str,
    parameters: str,
    rank: int | None,
    file_format: Format | None,
    experiment_file: Write,
    tmp_path: Path,
    world: Path,
) -> None:
    path, out = experiment_file(with_arm(method, parameters)), tmp_path / "out.safetensors"
    merge(str(path), "wanted", "star-ring", out, rank=rank, file_format=file_format)
    experiment = read_experiment(path)
    expected = drawn(experiment, path.parent)
    plain = load_pipeline(world / "sdxl")
    without = drawn_plainly(plain, experiment)
    with quiet():
        plain.load_lora_weights(out)
    assert apart(drawn_plainly(plain, experiment), expected) <= LEVELS
    assert apart(without, expected) > 10 * LEVELS
    said = header(out)
    assert (said["method"], said["arm"], said["case"]) == (method, "wanted", "star-ring")
    assert said["sources"] == [
        {"concept": name, "sha256": sha256_file(world / f"{name}.safetensors"), "weight": 1.0} for name in ("star", "ring")
    ]
    assert said["energy_kept"] == pytest.approx(1)


def test_our_own_loader_reads_the_file_at_the_same_scale(experiment_file: Write, tmp_path: Path, sdxl: Pipeline) -> None:
    path, out = experiment_file(with_arm("direct")), tmp_path / "out.safetensors"
    merge(str(path), "wanted", "ring-moon", out)
    found = load_lora(out, sdxl)
    assert set(found.scales.values()) == {1.0}
    ring, moon = (load_lora(tmp_path / f"{name}.safetensors", sdxl) for name in ("ring", "moon"))
    assert found.factors.keys() == ring.factors.keys() | moon.factors.keys()
    for layer in found.factors:
        expected = sum(lora.part(layer, weight).dense() for lora, weight in ((ring, 1.0), (moon, 0.8)) if layer in lora.factors)
        assert torch.allclose(found.part(layer).dense(), torch.as_tensor(expected), atol=1e-5)


def test_the_same_arm_gives_the_same_bytes(experiment_file: Write, tmp_path: Path) -> None:
    path = experiment_file(with_arm("dare_linear", '{ space = "core" }'))
    files = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for out in files:
        merge(str(path), "wanted", "star-moon", out)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_cut_says_how_much_it_keeps(experiment_file: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, shares = experiment_file(with_arm("ties")), []
    for rank in (2, 8):
        out = tmp_path / f"{rank}.safetensors"
        merge(str(path), "wanted", "star-ring", out, rank=rank, dtype=Precision.FLOAT16)
        shares.append(header(out)["energy_kept"])
        with safe_open(out, framework="pt") as file:
            downs = [file.get_tensor(key) for key in file.keys() if "lora_down" in key]
        assert {down.dtype for down in downs} == {torch.float16}
        assert max(down.shape[0] for down in downs) == rank
        assert f"a LoRA of rank {rank} at most, {100 * shares[-1]:.2f} % of the squared norm kept" in capsys.readouterr().err
    assert 0 < shares[0] < shares[1] < 1


def test_a_delta_holds_the_arm_s_weights_to_the_bit(experiment_file: Write, tmp_path: Path, sdxl: Pipeline) -> None:
    from generation.merge.setup import module_of
    from tests.merging import changes, loras_of

    path, out = experiment_file(with_arm("ties")), tmp_path / "delta.safetensors"
    merge(str(path), "wanted", "star-ring", out, delta=True)
    expected = changes(sdxl, sorted(loras_of(tmp_path, sdxl, "star", "ring"), key=lambda one: -one.place), "ties")
    delta = load_lora(out, sdxl)
    assert {change.form for change in delta.dense_changes.values()} == {"full difference"}
    assert same({name: module_of(sdxl, name).weight + delta.part(name).dense() for name in delta.layers}, expected)


@pytest.mark.parametrize(
    ("label", "case", "options", "message"),
    [
        ("other", "star-ring", {}, "--arm other: tiny has no such arm; it has direct, mc, orthogonal, wanted"),
        ("wanted", "ring-star", {}, "--case ring-star: tiny has no such case; it has star-ring, star-moon, ring-moon"),
        ("mc", "star-ring", {}, "mc_dropout changes while sampling, which no file of weights can represent"),
        ("wanted", "star-ring", {}, "ties gives dense weights, not a LoRA; give --rank N .* or --delta"),
        ("wanted", "star-ring", {"rank": 2, "delta": True}, "a dense change has no rank"),
        ("wanted", "star-ring", {"out": Path("merge.ckpt")}, "--out merge.ckpt: the file name does not end in .safetensors"),
    ],
)
def test_what_no_file_can_hold_is_refused(
    label: str, case: str, options: dict[str, Any], message: str, experiment_file: Write, tmp_path: Path
) -> None:
    path = experiment_file(with_arm("ties"))
    with pytest.raises(UserError, match=message):
        merge(str(path), label, case, **{"out": tmp_path / "out.safetensors", **options})
    assert not list(tmp_path.glob("out*"))


def test_a_run_says_what_compressing_arms_kept(experiment_file: Write, tmp_path: Path) -> None:
    path = experiment_file(with_arm("svd", "{ rank = 2 }"), ("seeds = 2", "seeds = 1"))
    generate(read_experiment(path), tmp_path / "run", path.parent, device="cpu")
    made = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert set(made["energy_kept"]) == {"wanted"}
    assert 0 < made["energy_kept"]["wanted"] < 1
    assert set(made["merge_seconds"]) == {"direct", "mc", "orthogonal", "wanted"}


def key_maps(pipeline: Pipeline) -> dict[str, Callable[[str], bool]]:
    """Return, by program, whether it finds a layer by the name that a file gives it; from their published key maps."""
    unet = [name for name, _ in pipeline.unet.named_modules()]
    original = original_names(pipeline.unet).values()
    dotted = re.compile(r"lora_te[12]?_text_model_encoder_layers_\d+_(self_attn_[qkv]_proj|self_attn_out_proj|mlp_fc[12])$")
    # ComfyUI (comfy/lora.py): names of the original checkpoint, and of diffusers' UNet, with underscores
    comfy = {f"lora_unet_{name.replace('.', '_')}" for name in [*unet, *original]}
    # A1111 (extensions-builtin/Lora): names of the original checkpoint; diffusers' by four patterns
    patterns = (
        r"lora_unet_(down|up)_blocks_\d+_attentions_\d+_.+", r"lora_unet_mid_block_attentions_\d+_.+",
        r"lora_unet_(down|up)_blocks_\d+_resnets_\d+_(conv[12]|time_emb_proj|conv_shortcut)",
        r"lora_unet_mid_block_resnets_\d+_.+",
    )  # fmt: skip
    forge = {f"lora_unet_{name.replace('.', '_')}" for name in original}
    return {
        "ComfyUI": lambda stem: stem in comfy or bool(dotted.match(stem)),
        "A1111": lambda stem: stem in forge or bool(dotted.match(stem)) or any(re.match(one, stem) for one in patterns),
        "InvokeAI": lambda stem: stem in comfy or bool(dotted.match(stem)),
    }


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_all_of_the_norm_arrives_by_the_published_key_maps(family: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pipeline: Pipeline = request.getfixturevalue(family)
    layers = adapted(pipeline, r"to_(q|k|v|out\.0)$|[qkv]_proj$|out_proj$|conv1$|fc1$|proj_in$|ff\.net\.2$|time_emb_proj$")
    names = ExportNames(common_format(pipeline), components(pipeline))
    out, total = tmp_path / "x.safetensors", 0.0
    with lora_writer(out, names, torch.float32) as writer:
        for number, (layer, module) in enumerate(layers.items()):
            down, up = factors(module, 2 + number % 3, torch.Generator().manual_seed(number))
            writer.add_factors(layer, Factors(down, up.flatten(1)))
            total += float(Factors(down, up.flatten(1)).dense().square().sum())
        writer.write({})
    state = load_file(out)
    for program, finds in key_maps(pipeline).items():
        arrived = 0.0
        for key in state:
            stem, _, suffix = key.partition(".")
            if suffix == "lora_up.weight" and finds(stem):
                down, up = state[f"{stem}.lora_down.weight"], state[key]
                arrived += float((up.flatten(1) @ down.flatten(1)).square().sum())
        assert arrived == pytest.approx(total), program
    lora = load_lora(out, pipeline)
    assert lora.layers == tuple(sorted(layers))
    with quiet():
        pipeline.load_lora_weights(out, adapter_name="written")
    try:
        modules = [module for part in components(pipeline).values() for module in part.modules()]
        scales = [module.scaling["written"] for module in modules if getattr(module, "scaling", None)]
        assert scales == [1.0] * len(layers)
    finally:
        pipeline.unload_lora_weights()


def test_a_peft_folder_is_loaded_by_peft(experiment_file: Write, tmp_path: Path, world: Path, sdxl: Pipeline) -> None:
    from peft import PeftModel

    path, out = experiment_file(with_arm("direct")), tmp_path / "out"
    merge(str(path), "wanted", "star-ring", out, file_format=Format.PEFT)
    assert sorted(folder.name for folder in out.iterdir()) == ["text_encoder", "text_encoder_2", "unet"]
    plain = load_pipeline(world / "sdxl")
    unet = PeftModel.from_pretrained(plain.unet, out / "unet").merge_and_unload()
    merged = load_lora(out / "unet", sdxl)
    for layer in merged.layers:
        name = layer.removeprefix("unet.")
        change = unet.get_submodule(name).weight - sdxl.unet.get_submodule(name).weight
        assert torch.allclose(change, merged.part(layer).dense(), atol=1e-5)
