"""Many recipes in one file: what each pair of concept and variant gets, what is wrong with its place, what is trained again."""

from pathlib import Path

import pytest
from safetensors import safe_open
from typer import Typer
from typer.testing import CliRunner

from evalkit.errors import UserError
from generation.shipped_files import shipped
from generation.tinyworld.concepts import ALL_CONCEPTS
from generation.train.command import train
from generation.train.series import find_recipes, read_recipes, train_series
from tests.train.conftest import RECIPE

# diffusers' scheduler on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SHARED = "\n".join(line for line in RECIPE.splitlines() if not line.startswith(("concept", "prompt", "class_prompt")))
CONCEPT = '[[concepts]]\nconcept = "{0}"\nprompt = "a V {0}"\nclass_prompt = "a {0}"\n'
CONCEPTS = CONCEPT.format("cat") + CONCEPT.format("dog")
PLAIN = '[[variants]]\nname = "plain"\n'
BLOCKS = '[[variants]]\nname = "blocks"\nonly = ["dog"]\nrank = 3\nblocks = { slots = 2 }\n'


def series(folder: Path, *parts: str) -> Path:
    path = folder / "series.toml"
    path.write_text("\n".join([SHARED, *parts]))
    return path


def test_each_pair_has_the_shared_keys_its_concept_s_and_its_variant_s(tmp_path: Path) -> None:
    found = read_recipes(series(tmp_path, PLAIN, BLOCKS, CONCEPTS))
    assert list(found) == ["plain/cat", "plain/dog", "blocks/dog"]
    assert [(recipe.rank, recipe.seed) for recipe in found.values()] == [(2, 0), (2, 1), (3, 1)]
    assert found["plain/dog"].prompt == "a V dog"
    blocks = found["blocks/dog"].blocks
    assert blocks is not None
    assert (blocks.slot, blocks.slots) == (1, 2)


def test_without_variants_the_loras_have_their_concepts_names(tmp_path: Path) -> None:
    assert list(read_recipes(series(tmp_path, CONCEPTS))) == ["cat", "dog"]


def test_random_rows_of_a_basis_get_no_slot(tmp_path: Path) -> None:
    variants = PLAIN + 'basis = { rows = "random" }\n' + PLAIN.replace("plain", "slots") + 'basis = { rows = "slots" }\n'
    found = read_recipes(series(tmp_path, variants, CONCEPTS))
    assert [recipe.basis.slot for recipe in found.values() if recipe.basis] == [None, None, 0, 1]


MISTAKES = {
    "no concepts": ((PLAIN,), "concepts: missing"),
    "no tables": (("concepts = 3",), r"concepts: must be a list of tables; write \[\[concepts\]\]"),
    "no name": (("[[variants]]\nrank = 3", CONCEPTS), r"variants\[0\].name: is missing"),
    "a name twice": ((PLAIN, PLAIN, CONCEPTS), "plain/cat occurs twice"),
    "a wrong key": ((PLAIN, "ranks = 3", CONCEPTS), "plain/cat: ranks: unknown key"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named_with_its_place(what: str, tmp_path: Path) -> None:
    parts, message = MISTAKES[what]
    with pytest.raises(UserError, match=message):
        read_recipes(series(tmp_path, *parts))


def test_a_series_is_trained_into_a_folder_and_what_is_there_stays(place: Path, tmp_path: Path) -> None:
    path = series(place, PLAIN, BLOCKS, CONCEPTS)
    app = Typer()
    app.command()(train)
    first = CliRunner().invoke(app, [str(path), "--out", str(tmp_path), "--only", "dog"])
    assert first.exit_code == 0, first.output
    assert not (tmp_path / "plain" / "cat.safetensors").exists()
    second = CliRunner().invoke(app, [str(path), "--out", str(tmp_path)])
    assert "2 of 3 LoRAs are there already" in second.output
    made = sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.safetensors"))
    assert made == ["blocks/dog.safetensors", "plain/cat.safetensors", "plain/dog.safetensors"]
    with safe_open(tmp_path / made[0], "pt") as file:
        assert file.metadata()["evalkit.slot"] == "1"
    (tmp_path / made[1]).write_bytes(b"mine")
    again = CliRunner().invoke(app, [str(path), "--out", str(tmp_path)])
    assert "3 of 3 LoRAs are there already" in again.output
    assert (tmp_path / made[1]).read_bytes() == b"mine"
    refused = CliRunner().invoke(app, [str(path), "--out", str(tmp_path / "one.safetensors")])
    assert "contains 3 recipes; give a folder" in str(refused.exception)


def test_workers_train_the_same_bits(place: Path, tmp_path: Path) -> None:
    recipes = read_recipes(series(place, CONCEPTS))
    folders = [tmp_path / "one", tmp_path / "two"]
    for workers, folder in enumerate(folders, start=1):
        files = {folder / f"{name}.safetensors": recipe for name, recipe in recipes.items()}
        train_series(files, place, tmp_path / "prior", "cpu", workers, lambda line: None)
    one, two = ([(folder / f"{name}.safetensors").read_bytes() for name in recipes] for folder in folders)
    assert one == two


@pytest.mark.parametrize("name", shipped("recipes"))
def test_every_shipped_series_reads_and_names_its_experiment(name: str) -> None:
    found = read_recipes(shipped("recipes")[name])
    assert len(found) > 1
    assert find_recipes(name) == (shipped("recipes")[name], Path.cwd())
    if name.startswith("tinyworld"):
        assert {recipe.concept for recipe in found.values()} <= set(ALL_CONCEPTS)
        assert all(recipe.prompt == ALL_CONCEPTS[recipe.concept].words for recipe in found.values())


def test_a_wish_that_is_no_file_names_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"no such recipe file; give a \.toml file or one of: .*tinyworld_blocklora"):
        find_recipes("nothing")
