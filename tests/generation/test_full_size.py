"""Every merge on the published architectures at full size: memory, scales, files for plain diffusers, folded beside hooked."""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from generation.experiment import ArmSpec, CaseSpec
from generation.experiment_file import read_experiment
from generation.lora.export_names import long_name
from generation.lora.lora_file import load_lora
from generation.merge import on_outputs
from generation.merge.export import write_merge
from generation.merge.methods import MERGE_METHODS
from generation.merge.setup import WeightedLora, module_of
from generation.pipeline import Pipeline, quiet
from generation.sampler import ImageRequest, Sampler
from generation.seeds import initial_noise
from tests.full_size import LAYERS, SIDE, Family, save_lora, save_model, save_trained_apart
from tests.tiny import adapted

pytestmark = pytest.mark.slow
LOG = logging.getLogger(__name__)

MEMORY = 20 * 10**9
PROMPT = "a star and a ring"
STEPS, GUIDANCE = 2, 2.0
# Arms that are no method at its defaults, and what arms need: method, parameters, case.
SPECIAL: dict[str, tuple[str, str]] = {
    "blocklora": ("{ weights = 'sum' }", "rows"),
    "orthogonal_adaptation": ("{}", "basis"),
    "b_lora": ("{ blocks = ['unet.down_blocks', ['unet.up_blocks', 'text_encoder']] }", "pair"),
    "lora_switch": ("{ tau = 1 }", "pair"),
    "ziplora": ("{ updates = 1, calibration_steps = 1 }", "pair"),
    **dict.fromkeys(("gradient_fusion", "regmean", "ssr"), ("{ calibration_steps = 1 }", "pair")),
}
ENTRIES = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
ARMS = {name: (name, *SPECIAL.get(name, ("{}", "pair"))) for name in MERGE_METHODS}
ARMS |= {f"{name}_core": (name, "{ space = 'core' }", "pair") for name in ENTRIES}
ARMS |= {
    "orthogonal_channel": ("orthogonal_mc_dropout", "{ granularity = 'channel' }", "pair"),
    "orthogonal_static": ("orthogonal_mc_dropout", "{ preset = 'static' }", "pair"),
    "direct_hooked": ("mc_dropout", "{ p = 0, granularity = 'channel' }", "pair"),
}
# What fixed weights hold. Of the four merges in dense space, whose file is as large as the model, one is written.
FILES = [
    label
    for label, (method, *_) in ARMS.items()
    if MERGE_METHODS[method].acts_on in ("weights", "calibrated") and label not in ENTRIES[1:]
] + ["orthogonal_static"]
# Each architecture with the number format it is held in and the layers that LoRAs adapt. SDXL's 3.4 billion weights in float32
# and copies of all that a merge changes would not fit: there LoRAs adapt some layers, and the merges that say most are drawn.
FEW_LAYERS = r"attn[12]\.to_(q|v)$|q_proj$|fc2$"
FEW_ARMS = ("direct", "svd", "ties_core", "blocklora", "orthogonal_static", "direct_hooked")
MODELS: dict[str, tuple[Family, str, str]] = {
    "sdxl": ("sdxl", "bfloat16", LAYERS),
    "sdxl-float32": ("sdxl", "float32", FEW_LAYERS),
    "sd15": ("sd15", "float32", LAYERS),
}
# Largest distance of two drawings of one merge: in float32 beside how far the merge moves the picture; in bfloat16, where
# rounding grows from layer to layer of random weights, beside what rounding does to the bare model's picture.
APART = {"float32": 1e-3, "bfloat16": 3.0}


@dataclass
class Proof:
    """A model of full size under evalkit, and what was drawn with it."""

    model: str
    sampler: Sampler
    folder: Path
    scales: dict[str, dict[str, float]]
    # how far the bare model's latents are from its own in float32
    rounding: float = 0.0
    drawn: dict[str, Tensor] = field(default_factory=dict)

    def arm(self, label: str) -> tuple[ArmSpec, CaseSpec]:
        case = next(case for case in self.sampler.experiment.cases if case.id == ARMS[label][2])
        return next(arm for arm in self.sampler.experiment.arms if arm.label == label), case

    def draw(self, label: str | None) -> Tensor:
        """Return the latents under an arm's merge, or under none."""
        arm, case = self.arm(label or "direct")
        if label is None:
            return latents(self.sampler.pipeline, lambda: self.sampler.generate([ImageRequest(case, 0)]))
        with self.sampler.merged(arm, case.concepts):
            return latents(self.sampler.pipeline, lambda: self.sampler.generate([ImageRequest(case, 0)]))

    @property
    def dtype(self) -> str:
        return MODELS[self.model][1]

    @property
    def layers(self) -> str:
        return MODELS[self.model][2]

    @property
    def labels(self) -> list[str]:
        return [label for label in ARMS if self.model != "sdxl-float32" or label in FEW_ARMS]

    def apart(self, one: Tensor, label: str) -> float:
        """Return how far a drawing is from the arm's, beside what `APART` says."""
        unit = self.rounding or float((self.drawn[label] - self.drawn["none"]).norm())
        return float((one - self.drawn[label]).norm()) / unit


def latents(pipeline: Pipeline, draw: Callable[[], object]) -> Tensor:
    """Return what the decoder is given while an image is drawn."""
    seen: list[Tensor] = []
    handle = pipeline.vae.post_quant_conv.register_forward_pre_hook(lambda _, args: seen.append(args[0].float().clone()))
    try:
        draw()
    finally:
        handle.remove()
    (found,) = seen
    return found


@pytest.fixture(scope="module", params=MODELS)
def proof(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    folder, model = tmp_path_factory.mktemp("full"), request.param
    # in a process of its own, so that nothing of what it held counts here
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        scales, exact = apart.submit(prepare, folder, model).result()
    sampler = Sampler(read_experiment(folder / "experiment.toml"), folder, torch.device("cpu"))
    made = Proof(model, sampler, folder, scales)
    made.drawn["none"] = made.draw(None)
    if exact is not None:
        made.rounding = float(np.linalg.norm(made.drawn["none"].numpy() - exact))
        moved = made.rounding / float(np.linalg.norm(exact))
        LOG.info(f"{model}: rounding moves the bare model's latents by {moved:.3f} of their norm")
    yield made
    sampler.close()


def prepare(folder: Path, model: str) -> tuple[dict[str, dict[str, float]], np.ndarray | None]:
    """Write model, LoRAs and experiment; return the LoRAs' scales and, of a model in half precision, what float32 draws."""
    family, dtype, layers = MODELS[model]
    pipeline = save_model(folder / "model", family, torch.bfloat16 if family == "sdxl" else torch.float32)
    scales = {
        "star": save_lora(folder / "star.safetensors", pipeline, layers, "peft", (8, 16, 12), (4, 16, 6, 24), seed=1),
        "ring": save_lora(folder / "ring.safetensors", pipeline, layers, "kohya", (4, 8, 16), (1, 8, 2, 16), seed=2),
    }
    for way in ("rows", "basis"):
        for slot in range(2):
            save_trained_apart(folder / f"{way}{slot}.safetensors", pipeline, layers, way, slot)
    del pipeline
    (folder / "experiment.toml").write_text(experiment(dtype), encoding="utf-8")
    if dtype != "bfloat16":
        return scales, None
    (folder / "exact.toml").write_text(experiment("float32"), encoding="utf-8")
    sampler = Sampler(read_experiment(folder / "exact.toml"), folder, torch.device("cpu"))
    return scales, Proof(model, sampler, folder, {}).draw(None).numpy()


def experiment(dtype: str) -> str:
    """Return the experiment file: every arm, and a case for each pair of LoRAs."""
    names = ("star", "ring", "rows0", "rows1", "basis0", "basis1")
    concepts = [
        f'[[concepts]]\nname = "{name}"\nwords = "{word}"\nclass_word = "{word}"\nadapter = "{name}.safetensors"'
        for name, word in zip(names, ("star", "ring") * 3, strict=True)
    ]
    arms = [f'[[arms]]\nlabel = "{label}"\nmethod = "{arm[0]}"\nparameters = {arm[1]}' for label, arm in ARMS.items()]
    pairs = {"pair": names[:2], "rows": names[2:4], "basis": names[4:]}
    cases = [
        f'[[cases]]\nid = "{name}"\nconcepts = {list(pair)}\nprompt = "{PROMPT}"\nnegative_prompt = ""\nseeds = 1'
        for name, pair in pairs.items()
    ]
    return "\n".join([
        'name = "full"', "[base]", 'model = "model"', f'dtype = "{dtype}"', "[sampling]", f"steps = {STEPS}",
        f"guidance = {GUIDANCE}", f"width = {8 * SIDE}", f"height = {8 * SIDE}", *concepts, *arms, *cases,
    ])  # fmt: skip


class Peak:
    """The largest resident memory of this process since `reset`, in bytes, as Linux counts it."""

    def reset(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


@pytest.mark.parametrize("name", ["star", "ring"])
def test_scales_are_those_of_the_file(proof: Proof, name: str) -> None:
    found = load_lora(proof.folder / f"{name}.safetensors", proof.sampler.pipeline)
    assert set(found.scales) == set(adapted(proof.sampler.pipeline, proof.layers))
    assert found.scales == pytest.approx(proof.scales[name])
    assert len(set(found.scales.values())) > 3


# The next three build on one another, and stand in this order.


def test_every_merge_draws_within_20_gb(proof: Proof) -> None:
    wrong = {}
    for label in proof.labels:
        peak, start = Peak(), time.perf_counter()
        peak.reset()
        found = proof.drawn[label] = proof.draw(label)
        drawn = time.perf_counter()
        if label in FILES:
            arm, case = proof.arm(label)
            write_merge(proof.sampler, arm, case, proof.folder / f"{label}.out.safetensors", delta=label in ENTRIES)
        end, most = time.perf_counter(), peak.bytes()
        moved = float((found - proof.drawn["none"]).norm() / proof.drawn["none"].norm())
        said = f"drawn {drawn - start:.0f} s, written {end - drawn:.0f} s, peak {most / 1e9:.1f} GB, moved {moved:.3f}"
        LOG.info(f"{proof.model} {label}: {said}")
        if not (most < MEMORY and moved > 0.01):
            wrong[label] = said
    assert not wrong


def test_hooked_equals_folded(proof: Proof) -> None:
    arm, case = proof.arm("orthogonal_static")
    sampler = proof.sampler
    loras = [WeightedLora(sampler.lora(name), 1.0, case.concepts.index(name)) for name in sorted(case.concepts)]
    with on_outputs.hooked(sampler.merge(arm), sampler.pipeline, loras, sampler.state, None):
        static = latents(sampler.pipeline, lambda: sampler.generate([ImageRequest(case, 0)]))
    found = {label: proof.apart(*pair) for label, pair in {
        "direct": (proof.drawn["direct_hooked"], "direct"), "static": (static, "orthogonal_static"),
    }.items()}  # fmt: skip
    LOG.info(f"{proof.model} hooked beside folded: {found}")
    assert max(found.values()) < APART[proof.dtype]


@contextmanager
def loaded(proof: Proof, path: Path) -> Iterator[None]:
    """Hold a file in the model as diffusers' users would: by `load_lora_weights`, or a delta added to the weights."""
    pipeline = proof.sampler.pipeline
    changes = {name: tensor for name, tensor in load_file(path).items() if name.endswith(".diff")}
    if not changes:
        pipeline.load_lora_weights(path)
        yield
        pipeline.unload_lora_weights()
        return
    kept, layers = [], adapted(pipeline, proof.layers)
    with torch.no_grad():
        for name, change in changes.items():
            weight = module_of(
                pipeline, next(layer for layer in layers if long_name(layer) == name.removesuffix(".diff"))
            ).weight
            kept.append((weight, weight.clone()))
            weight.copy_(weight.float() + change)
        yield
        for weight, before in kept:
            weight.copy_(before)


def test_written_merges_draw_the_same_in_plain_diffusers(proof: Proof) -> None:
    proof.sampler.close()
    pipeline, apart = proof.sampler.pipeline, {}
    noise = initial_noise(0, (4, SIDE, SIDE))[None].to(pipeline.unet.dtype)
    for label in [label for label in proof.labels if label in FILES]:
        out = proof.folder / f"{label}.out.safetensors"
        with quiet(), loaded(proof, out):
            found = latents(
                pipeline,
                lambda: pipeline(
                    PROMPT, negative_prompt="", num_inference_steps=STEPS, guidance_scale=GUIDANCE, width=8 * SIDE,
                    height=8 * SIDE, latents=noise, output_type="np",
                ),
            )  # fmt: skip
        out.unlink()
        apart[label] = proof.apart(found, label)
        LOG.info(f"{proof.model} {label}: {apart[label]:.2g} apart")
    assert max(apart.values()) < APART[proof.dtype]
