"""Reward guidance: the formula written out, for every kind of merge, and what it leaves alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generation.experiment_file import read_experiment
from generation.pipeline import components, quiet
from generation.provenance import Provenance
from generation.run import generate
from generation.sampler import ImageRequest, Sampler
from generation.seeds import image_key

Write = Callable[..., Path]
ARMS = (
    'method = "orthogonal_mc_dropout"\nparameters = { p = 0.5 }',
    """method = "orthogonal_mc_dropout"
parameters = { p = 0.5 }

[[arms]]
label = "switch"
method = "lora_switch"

[[arms]]
label = "composite"
method = "lora_composite"
""",
)


def sampler(path: Path) -> Sampler:
    return Sampler(read_experiment(path), path.parent, torch.device("cpu"))


def guesses(sampler: Sampler, cell: ImageRequest, arm: str) -> list[dict[str, Any]]:
    """Draw a cell; return what the sampler was given and made of at every step."""
    seen: list[dict[str, Any]] = []
    step = sampler.pipeline.scheduler.step

    def look(guess: Tensor, when: Tensor, latents: Tensor, **more: Any) -> Any:
        seen.append({"guess": guess, "when": when, "latents": latents.clone()})
        return step(guess, when, latents, **more)

    sampler.pipeline.scheduler.step = look
    with sampler.merged(next(one for one in sampler.experiment.arms if one.label == arm), cell.case.concepts):
        sampler.generate([cell])
    sampler.pipeline.scheduler.step = step
    return seen


@torch.no_grad()
def asked(sampler: Sampler, prompt: str, latents: Tensor, when: Tensor) -> Tensor:
    """Return the denoiser's guess for a prompt, as the model is now."""
    pipe = sampler.pipeline
    with quiet():
        states, _, pooled, _ = pipe.encode_prompt(prompt=prompt, device="cpu", do_classifier_free_guidance=False)
        pipe.scheduler.set_timesteps(sampler.experiment.sampling.steps)
        pipe.scheduler._step_index = None
        scaled = pipe.scheduler.scale_model_input(latents, when)
    times = torch.tensor([[16.0, 16, 0, 0, 16, 16]])
    guess: Tensor = pipe.unet(
        scaled, when, encoder_hidden_states=states, added_cond_kwargs={"text_embeds": pooled, "time_ids": times}
    ).sample
    return guess


@pytest.mark.parametrize("arm", ["direct", "orthogonal", "switch", "composite"])
def test_it_is_the_formula_written_out(arm: str, experiment_file: Write) -> None:
    path = experiment_file(ARMS, ("guidance = 5.0", "guidance = 5.0\nreward_guidance = 3.0"))
    drawn = sampler(path)
    case = drawn.experiment.cases[0]
    chosen = next(one for one in drawn.experiment.arms if one.label == arm)
    (first, *_) = guesses(drawn, ImageRequest(case, 0), arm)
    e0 = [asked(drawn, text, first["latents"], first["when"]) for text in ("", "star ring")]
    assert case.prompt != "star ring" == drawn.experiment.plain_prompt(case)
    with drawn.merged(chosen, case.concepts):
        drawn.state.begin([image_key(case.id, 0)])
        # the pipeline asks the text encoders for the prompt first: so do we, from the first call on
        mine = asked(drawn, case.prompt, first["latents"], first["when"])
    expected = e0[0] + 5 * (e0[1] - e0[0]) + 3 * (mine - e0[1])
    assert torch.allclose(first["guess"], expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(expected, e0[0] + 5 * (e0[1] - e0[0]), atol=1e-2)
    drawn.close()


def test_zero_changes_no_byte_and_no_experiment(experiment_file: Write, tmp_path: Path) -> None:
    plain = generate(read_experiment(experiment_file()), tmp_path / "plain", tmp_path, device="cpu")
    path = experiment_file(("guidance = 5.0", "guidance = 5.0\nreward_guidance = 0"))
    zero = generate(read_experiment(path), tmp_path / "plain", tmp_path, device="cpu")
    assert zero == plain
    path = experiment_file(("guidance = 5.0", "guidance = 5.0\nreward_guidance = 2"))
    two = generate(read_experiment(path), tmp_path / "two", tmp_path, device="cpu", batch_size=3)
    assert not {image.sha256 for image in two.images} & {image.sha256 for image in plain.images}
    one = generate(read_experiment(path), tmp_path / "one", tmp_path, device="cpu", batch_size=1)
    assert [image.sha256 for image in one.images] == [image.sha256 for image in two.images]
    made = [
        Provenance.model_validate_json((tmp_path / name / "provenance.json").read_text()).experiment["sampling"]
        for name in ("plain", "two")
    ]
    assert [sampling.get("reward_guidance") for sampling in made] == [None, 2.0]  # type: ignore[union-attr]


def test_without_guidance_there_are_two_rows(experiment_file: Write) -> None:
    """Guidance of one asks for no unguided half: what is left is e0(p) + strength (e(c) - e0(p))."""
    path = experiment_file(("guidance = 5.0", "guidance = 1.0\nreward_guidance = 3.0"))
    drawn = sampler(path)
    case = drawn.experiment.cases[0]
    (first, *_) = guesses(drawn, ImageRequest(case, 0), "direct")
    base = asked(drawn, "star ring", first["latents"], first["when"])
    with drawn.merged(drawn.experiment.arms[0], case.concepts):
        mine = asked(drawn, case.prompt, first["latents"], first["when"])
    assert torch.allclose(first["guess"], base + 3 * (mine - base), atol=1e-3, rtol=1e-3)
    drawn.close()


def test_every_weight_is_back_after_drawing(experiment_file: Write) -> None:
    drawn = sampler(experiment_file(("guidance = 5.0", "guidance = 5.0\nreward_guidance = 3.0")))
    before = {
        f"{name}.{key}": (value.clone(), value.data_ptr())
        for name, part in components(drawn.pipeline).items()
        for key, value in part.state_dict().items()
    }
    guesses(drawn, ImageRequest(drawn.experiment.cases[0], 0), "direct")
    for name, part in components(drawn.pipeline).items():
        for key, value in part.state_dict().items():
            assert torch.equal(value, before[f"{name}.{key}"][0])
            assert value.data_ptr() == before[f"{name}.{key}"][1]
    drawn.close()
