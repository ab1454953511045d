"""The experiment file: what it resolves to, and all its mistakes at once, each with its place."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.errors import UserError
from generation.experiment import find_experiment
from generation.experiment_file import read_experiment
from generation.shipped_files import shipped

Write = Callable[..., Path]
ORTHOGONAL = "parameters = { p = 0.5 }"
CASE = '[[cases]]\nid = "a"\nconcepts = ["{}"]\nprompt = "a star"\nseeds = 1\n[cases_from]'


def test_cases_are_all_subsets_with_their_prompts(experiment_file: Write) -> None:
    experiment = read_experiment(experiment_file())
    assert [case.id for case in experiment.cases] == ["star-ring", "star-moon", "ring-moon"]
    assert experiment.cases[0].prompt == "<s> star <r> ring"
    assert experiment.cases[0].seeds == (0, 1)
    assert experiment.plain_prompt(experiment.cases[0]) == "star ring"


def test_cases_may_be_listed_beside_the_made_ones(experiment_file: Write) -> None:
    case = '[[cases]]\nid = "one"\nconcepts = ["star"]\nprompt = "a <s> star"\nseeds = [7, 9]\n\n[cases_from]'
    experiment = read_experiment(experiment_file(("[cases_from]", case)))
    first = experiment.cases[0]
    assert (first.id, first.seeds, first.negative_prompt) == ("one", (7, 9), None)
    assert len(experiment.cases) == 4


def test_several_prompts_and_several_numbers_of_merged_concepts_make_a_case_each(experiment_file: Write) -> None:
    wish = 'choose = 1\nmerged = [1, 3]\ntemplate = ["{0}", "a photo of {0}"]'
    rates = (ORTHOGONAL, "parameters = { p = 0.7 }")
    cases = read_experiment(experiment_file(('choose = 2\ntemplate = "{0} {1}"', wish), rates)).cases
    assert [case.id for case in cases[:4]] == ["star-p1-of1", "star-p1-of3", "star-p2-of1", "star-p2-of3"]
    assert cases[3].prompt == "a photo of <s> star"
    assert [case.merged for case in cases if case.id.endswith("p1-of3")] == [
        ("star", "ring", "moon"), ("ring", "moon", "star"), ("moon", "star", "ring")
    ]  # fmt: skip


def test_an_arm_may_merge_loras_of_its_own(experiment_file: Write) -> None:
    path = experiment_file(('label = "direct"', 'label = "direct"\nadapters = "mine"'))
    with pytest.raises(UserError, match=r"arms\[0\].adapters: .*mine.star.safetensors: no such LoRA file"):
        read_experiment(path)
    (path.parent / "mine").mkdir(exist_ok=True)
    for name in ("star", "ring", "moon"):
        (path.parent / "mine" / f"{name}.safetensors").write_bytes((path.parent / f"{name}.safetensors").read_bytes())
    assert read_experiment(path).arms[0].adapters == "mine"


ARM = '[[arms]]\nlabel = "only"\nmethod = "direct"\n'


def test_an_experiment_like_another_says_only_what_differs(experiment_file: Write) -> None:
    path = experiment_file()
    twin = path.with_name("twin.toml")
    twin.write_text(f'like = "{path.name}"\n{ARM}')
    whole, cut = read_experiment(path), read_experiment(twin)
    assert (cut.name, [arm.label for arm in cut.arms]) == ("twin", ["only"])
    assert cut == whole.model_copy(update={"name": "twin", "arms": cut.arms})
    twin.write_text(f'like = "{path.name}"\n' + CASE.format("star").replace("[cases_from]", "").replace("a star", "<s> star"))
    assert [case.id for case in read_experiment(twin).cases] == ["a"]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("nowhere", "like: nowhere: no such experiment"),
        ("twin.toml", "refers back to this file"),
        ("other.toml", "is not a TOML file"),
    ],
)
def test_an_experiment_that_can_be_like_none_is_refused(like: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("name =")
    (tmp_path / "twin.toml").write_text(f'like = "{like}"\n{ARM}')
    with pytest.raises(UserError, match=message):
        read_experiment(tmp_path / "twin.toml")


MISTAKES: dict[str, tuple[tuple[str, str], str]] = {
    "unknown section": (("[base]", "seed = 1\n[base]"), "seed: unknown key; an experiment has name, like, base"),
    "unknown key": (("steps = 2", "steps = 2\nstep = 3"), "sampling.step: unknown key"),
    "unknown method": (
        ('method = "mc_dropout"', 'method = "mc_dropot"'),
        r"arms\[1\]: no merge method 'mc_dropot'; did you mean 'mc_dropout'\? Known: direct, mc_dropout",
    ),
    "unknown parameter": (
        (ORTHOGONAL, "parameters = { q = 0.5 }"),
        r"arms\[2\]: orthogonal_mc_dropout has no parameter 'q'; .*its parameters are",
    ),
    "parameter of another method": (
        ('method = "direct"', 'method = "direct"\nparameters = { p = 0.5 }'),
        r"arms\[0\]: direct has no parameter 'p'; its parameters are weights",
    ),
    "rate out of range": (
        (ORTHOGONAL, "parameters = { p = 1.5 }"),
        r"arms\[2\]: p: 1.5 is not a dropout rate; give a number in \[0, 1\)",
    ),
    "rate of another type": (
        (ORTHOGONAL, 'parameters = { p = "0.5" }'),
        r"arms\[2\]: p: '0.5' is not a dropout rate; give a number in",
    ),
    "infeasible rate": ((ORTHOGONAL, "parameters = { p = 0.4 }"), r"arms\[2\]: p = 0.4: 2 LoRAs .* set p to 0.5 or more"),
    "infeasible for three": (("choose = 2", "choose = 3"), r"p = 0.5: 3 LoRAs cannot keep 0.5 .* set p to 0.6667 or more"),
    "infeasible list": ((ORTHOGONAL, "parameters = { p = [0.5, 0.3] }"), r"the rates must add up to 1 or more"),
    "list of another length": ((ORTHOGONAL, "parameters = { p = [0.5] }"), r"p lists 1 rates, a case merges 2 LoRAs"),
    "preset and option": (
        (ORTHOGONAL, 'parameters = { preset = "static", cfg = "shared" }'),
        r"arms\[2\]: preset = 'static' already sets cfg",
    ),
    "unknown preset": ((ORTHOGONAL, 'parameters = { preset = "statc" }'), r"arms\[2\]: preset: must be 'official'"),
    "duplicate label": (('label = "mc"', 'label = "Direct"'), r"arms\[1\].label: 'Direct' is also the name of arms\[0\]"),
    "duplicate concept": (('name = "moon"', 'name = "star"'), r"concepts\[2\].name: 'star' is also the name of concepts\[0\]"),
    "missing adapter": (
        ('"moon.safetensors"', '"mon.safetensors"'),
        r"concepts\[2\].adapter: .*mon.safetensors: no such LoRA file",
    ),
    "missing references": (('"references"', '"pictures"'), r"concepts\[0\].references: .*pictures: no such folder"),
    "no references": (('"references"', '"sdxl"'), r"concepts\[0\].references: .*sdxl: contains no reference image"),
    "missing model": (('model = "sdxl"', 'model = "sdx"'), r"base.model: .*sdx: is neither a folder nor a hub id"),
    "no model": (('model = "sdxl"', 'model = "references"'), r"base.model: .*references: has no model_index.json"),
    "unknown scheduler": (
        ('model = "sdxl"', 'model = "sdxl"\nscheduler = "KDPM2Discrete"'),
        r"base.scheduler: diffusers has no scheduler 'KDPM2Discrete'; did you mean 'KDPM2DiscreteScheduler'\? Known: .*DDIM",
    ),
    "bad name": (('label = "mc"', 'label = "m/c"'), r"arms\[1\].label: 'm/c' may have letters"),
    "not a number": (("guidance = 5.0", "guidance = nan"), r"sampling.guidance: must be a finite number"),
    "template": (
        ('"{0} {1}"', '"{0} {2}"'),
        r"cases_from.template: '\{0\} \{2\}' is not a valid template .* concepts are \{0\} to \{1\}",
    ),
    "too many chosen": (("choose = 2", "choose = 4"), r"cases_from.choose: 4 is more than the 3 concepts there are"),
    "too many merged": (("choose = 2", "choose = 2\nmerged = [2, 4]"), r"cases_from.merged: \[2, 4\]: give 2 to 3 concepts"),
    "unknown concept beside": (
        ("[cases_from]", CASE.format("star").replace("seeds", 'beside = ["sun"]\nseeds')),
        r"cases\[0\].beside: no concept 'sun'",
    ),
    "no seeds": (("seeds = 2", "seeds = 0"), r"cases_from.seeds"),
    "seed twice": (("seeds = 2", "seeds = [3, 3]"), r"seeds: \[3, 3\] contains one of them twice"),
    "words not in the prompt": (
        ("[cases_from]", CASE.format("star")),
        r"cases\[0\].prompt: does not contain '<s> star', the words of star",
    ),
    "unknown concept": (
        ("[cases_from]", CASE.format("sun")),
        r"cases\[0\].concepts: no concept 'sun'; known: star, ring, moon",
    ),
    "no cases": (("[cases_from]", "[sampling.more]"), r"cases: missing"),
    "no TOML": (("[base]", "[base"), r"is not a TOML file"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named_with_its_place_in_one_line(what: str, experiment_file: Write) -> None:
    change, message = MISTAKES[what]
    path = experiment_file(change)
    with pytest.raises(UserError, match=message) as caught:
        read_experiment(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_reported_at_once(experiment_file: Write) -> None:
    wrong = (("steps = 2", "stepz = 2"), ('"moon.safetensors"', '"mon.safetensors"'), ('method = "direct"', 'method = "dare"'))
    with pytest.raises(UserError) as caught:
        read_experiment(experiment_file(*wrong))
    for place in ("sampling.stepz:", "sampling.steps:", "concepts[2].adapter:", "arms[0]: no merge method 'dare'"):
        assert place in str(caught.value)


def test_the_shipped_experiments_are_found_by_name() -> None:
    assert {"tinyworld", "tinyworld_mask_noise", "orthogonal_mc_dropout", "community_loras"} <= set(shipped("experiments"))
    assert find_experiment("community_loras") == (shipped("experiments")["community_loras"], Path.cwd())
    with pytest.raises(
        UserError, match=r"no such experiment file; give a \.toml file or one of: blocklora, community_loras, .*noise"
    ):
        find_experiment("nothing")


def test_the_paper_s_experiment_is_the_paper_s(data: Path) -> None:
    """Zhang et al. 2025, sections 4.1 and 4.2: 435 pairs of 30 concepts x 4 images, per method."""
    experiment = read_experiment(shipped("experiments")["orthogonal_mc_dropout"], data)
    assert len(experiment.concepts) == 30
    assert sum(len(case.seeds) for case in experiment.cases) == 435 * 4
    sampling = experiment.sampling
    assert (sampling.steps, sampling.guidance, sampling.clip_skip, sampling.width) == (40, 7.0, 2, 1024)
    assert (experiment.base.model, experiment.base.scheduler) == (
        "stabilityai/stable-diffusion-xl-base-1.0",
        "KDPM2DiscreteScheduler",
    )
    assert {concept.weight for concept in experiment.concepts} == {1.0}
    assert [arm.parameters.get("p") for arm in experiment.arms] == [None, 0.5, 0.5]
    classes = (data / "dreambooth" / "prompts_and_classes.txt").read_text().splitlines()[3:33]
    assert [f"{concept.name},{concept.class_word}" for concept in experiment.concepts] == classes


def test_the_community_experiment_reads_anywhere(tmp_path: Path) -> None:
    experiment = read_experiment(shipped("experiments")["community_loras"], tmp_path)
    assert experiment.plain_prompt(experiment.cases[0]) == "cloud, character, best quality, masterpiece"
