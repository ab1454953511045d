"""ZipLoRA: coefficients of inputs, found through the whole denoiser, and what they make of two LoRAs."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generation.lora.lora_file import load_lora
from generation.merge.apply import Merge
from generation.merge.method_inputs import ColumnObjective
from generation.merge.methods import MERGE_METHODS
from generation.merge.on_input_columns import _Bench
from generation.merge.sampling_state import SamplingState
from generation.merge.setup import WeightedLora, at_work, layers_of, module_of
from generation.pipeline import Pipeline, quiet
from tests.merging import changes, loras_of
from tests.tiny import adapted, save_peft_lora

METHOD = MERGE_METHODS["ziplora"]
QUICK = {"calibration_steps": 1, "updates": 2}


def found(targets: Tensor, **parameters: float) -> Mapping[str, Tensor]:
    """Return the coefficients for errors that are distances to `targets`, one LoRA each."""
    columns = {"unet.a": torch.ones(2, 3, requires_grad=True)}

    def errors(update: int) -> Iterator[Tensor]:
        for number in range(2):
            yield (columns["unet.a"][number] - targets[number]).norm()

    result: Mapping[str, Tensor] = METHOD.function(ColumnObjective(columns, errors), **METHOD.settings(parameters).model_dump(
        exclude={"prompts", "calibration_steps"}
    ))  # fmt: skip
    return result


def test_coefficients_lower_the_paper_s_loss() -> None:
    targets = torch.tensor([[1.5, 0.5, 1.0], [1.0, 1.2, 0.8]])
    free = found(targets, similarity=0.0, updates=300)["unet.a"]
    assert torch.allclose(free, targets, atol=0.05)
    apart = found(targets, similarity=50.0, updates=300, learning_rate=0.02)["unet.a"]
    assert abs(float((apart[0] * apart[1]).sum())) < 0.1 * float((free[0] * free[1]).sum())


def test_the_first_update_follows_the_gradient_written_out() -> None:
    """Adam's first step is the rate times the gradient's sign."""
    result = found(torch.tensor([[2.0, 1.0, 0.5], [1.0, 1.0, 1.0]]), similarity=1e-3, updates=1, learning_rate=0.1)["unet.a"]
    # similarity pulls down, the first LoRA's error towards 2 and 0.5; at distance 0 a norm has no gradient
    assert torch.allclose(result, torch.tensor([[1.1, 0.9, 0.9], [0.9, 0.9, 0.9]]), atol=1e-4)


def loras(world: Path, pipeline: Pipeline, folder: Path) -> list[WeightedLora]:
    """Return two LoRAs: attention and text, and convolutions as well, so that some layers have one LoRA only."""
    conv = save_peft_lora(folder / "conv.safetensors", adapted(pipeline, r"conv1$|to_q$|v_proj$"), rank=2, seed=5)
    other = save_peft_lora(folder / "other.safetensors", adapted(pipeline, r"conv1$|to_[qk]$|v_proj$"), rank=3, seed=6)
    return [WeightedLora(load_lora(path, pipeline), weight, place, f"v{place}")
            for place, (path, weight) in enumerate(((conv, 1.0), (other, 0.7)))]  # fmt: skip


def test_every_input_of_a_shared_layer_has_a_factor_per_lora(world: Path, sdxl: Pipeline, tmp_path: Path) -> None:
    both = loras(world, sdxl, tmp_path)
    before = {name: weight.clone() for name, weight in sdxl.unet.state_dict().items()}
    merged = changes(sdxl, both, "ziplora", **QUICK)
    base = changes(sdxl, [], "direct") | {layer: weight for layer, weight in weights(sdxl, merged).items()}
    convolutions = 0
    for layer, here in layers_of(both).items():
        delta = (merged[layer] - base[layer]).double().flatten(1)
        own = [one.part(layer, torch.device("cpu")).dense().double().flatten(1) for one in here]
        if layer.startswith("unet.") and len(here) == 2:
            convolutions += layer.endswith("conv1")
            # two updates of a hundredth each: no factor is farther than that from one
            for column in range(delta.shape[1]):
                basis = torch.stack([one[:, column] for one in own], dim=1)
                factors = torch.linalg.lstsq(basis, delta[:, column]).solution
                assert torch.allclose(basis @ factors, delta[:, column], atol=1e-4)
            assert not torch.allclose(delta, own[0] + own[1], atol=1e-4)
        else:
            assert torch.allclose(delta, torch.stack(own).sum(0), atol=1e-5)
    assert convolutions
    assert all(torch.equal(weight, before[name]) for name, weight in sdxl.unet.state_dict().items())
    assert not sdxl.unet.is_gradient_checkpointing


def weights(pipeline: Pipeline, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {layer: module_of(pipeline, layer).weight.clone() for layer in like}


def test_the_merge_comes_nearer_to_what_each_lora_guesses_alone(world: Path, sdxl: Pipeline, tmp_path: Path) -> None:
    """With similarity out of play, the paper's two errors fall."""
    both = at_work(loras(world, sdxl, tmp_path))
    setup = Merge(METHOD, METHOD.settings({"calibration_steps": 1, "similarity": 0.0, "updates": 20}), seed=3)
    shared = {layer: here for layer, here in layers_of(both).items() if layer.startswith("unet.") and len(here) > 1}
    state = SamplingState(sdxl)
    with quiet(), _Bench(setup, sdxl, both, shared).set_up() as objective:
        first = [sum(float(error.detach()) for error in objective.errors(update)) for update in range(100, 105)]
        METHOD.function(objective, similarity=0.0, updates=20, learning_rate=0.05)
        last = [sum(float(error.detach()) for error in objective.errors(update)) for update in range(100, 105)]
    state.close()
    assert sum(last) < 0.98 * sum(first)


def test_one_lora_is_itself(world: Path, sdxl: Pipeline) -> None:
    (star,) = loras_of(world, sdxl, "star")
    one, direct = (changes(sdxl, [star], method, **more) for method, more in (("ziplora", QUICK), ("direct", {})))
    assert all(torch.equal(one[layer], direct[layer]) for layer in direct)


def test_a_subject_and_a_style() -> None:
    assert METHOD.check is not None
    with pytest.raises(ValueError, match="ziplora merges 2 LoRAs, a subject and a style; a case has 3"):
        METHOD.check(3, METHOD.settings({}))
