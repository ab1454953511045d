"""Files of many recipes, every concept with every training variant, and their training in sequence or in parallel."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.run.file_record import Name, Record, mistakes
from generation.shipped_files import find
from generation.train.recipe import TrainingRecipe, parse_recipe, read_toml
from generation.train.training_notes import stays


def find_recipes(wish: str) -> tuple[Path, Path]:
    """Return a recipe file and the folder its relative paths start from, as `generation.shipped_files.find` does."""
    return find(wish, "recipes", "recipe file")


class _Variant(Record):
    """Keys of a variant that are not keys of a recipe."""

    name: Name
    only: tuple[Name, ...] | None = None


def read_recipes(path: Path) -> dict[str, TrainingRecipe]:
    """Return the recipes of a file by the name of the LoRA they train: "variant/concept", or only the concept's name.

    A file with `[[concepts]]` and, optionally, `[[variants]]` contains a recipe for each pair: the keys above them, then the
    concept's, then the variant's; later ones take precedence. A variant has a `name`, and may apply to `only` some concepts.
    If `seed`, or the `slot` of row blocks or of a basis, is not given, it is the concept's position in the list, from 0. Any
    other file is one recipe.

    Raises:
        UserError: the file has mistakes; the message states where.
    """
    raw = read_toml(path)
    if "concepts" not in raw and "variants" not in raw:
        recipe = parse_recipe(raw, str(path))
        return {recipe.concept: recipe}
    shared = {key: value for key, value in raw.items() if key not in ("concepts", "variants")}
    concepts, variants = (_tables(raw, key, path) for key in ("concepts", "variants"))
    if not concepts:
        raise UserError(f"{path}: concepts: missing; write [[concepts]]")
    recipes: dict[str, TrainingRecipe] = {}
    for number, variant in enumerate(variants or [{}]):
        given = {key: value for key, value in variant.items() if key in _Variant.model_fields}
        try:
            label = _Variant.model_validate(given) if variant else None
        except ValidationError as error:
            raise UserError(f"{path}: {'; '.join(mistakes(error, within=f'variants[{number}]'))}") from error
        for position, concept in enumerate(concepts):
            name = str(concept.get("concept"))
            if label is not None and label.only is not None and name not in label.only:
                continue
            key = f"{label.name}/{name}" if label is not None else name
            if key in recipes:
                raise UserError(f"{path}: {key} occurs twice; give concepts and variants different names")
            own = {key: value for key, value in variant.items() if key not in given}
            recipes[key] = parse_recipe(_placed({**shared, **concept, **own}, position), f"{path}: {key}")
    return recipes


def _tables(raw: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = raw.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: {key}: must be a list of tables; write [[{key}]]")
    return entries


def _placed(raw: dict[str, Any], position: int) -> dict[str, Any]:
    """Return a recipe's keys with the seed and the slots that follow from the concept's place."""
    raw = {"seed": position} | raw
    for key in ("blocks", "basis"):
        table = raw.get(key)
        if isinstance(table, dict) and table.get("rows") != "random":
            raw[key] = {"slot": position} | table
    return raw


def train_series(
    wanted: Mapping[Path, TrainingRecipe],
    folder: Path,
    prior: Path,
    device: str | None,
    workers: int,
    say: Callable[[str], None],
) -> None:
    """Train each recipe into its file, `workers` at a time with one thread each; files that the same recipe trained are kept.

    A file of another recipe is kept under a second name, and trained again. Relative paths of the recipes start from
    `folder`; prior images are kept below `prior`.

    Raises:
        UserError: a recipe can't be trained; the others of its worker are not begun.
    """
    left = {out: recipe for out, recipe in wanted.items() if not stays(out, recipe, say)}
    if len(left) < len(wanted):
        say(f"{len(wanted) - len(left)} of {len(wanted)} LoRAs are there already and stay as they are")
    if workers == 1:
        for out, recipe in left.items():
            say(train_one(out, recipe, folder, prior, device, threads=None))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        begun = [pool.submit(train_one, out, recipe, folder, prior, device, threads=1) for out, recipe in left.items()]
        for done in as_completed(begun):
            say(done.result())


def train_one(out: Path, recipe: TrainingRecipe, folder: Path, prior: Path, device: str | None, threads: int | None) -> str:
    """Train one recipe into `out` and return lines about it; `threads` is the processor's share, None leaves it as it is."""
    import time

    import torch

    from evalkit.encoders.device import choose_device
    from generation.experiment import BaseSpec
    from generation.paths import model_folder
    from generation.pipeline import load_pipeline
    from generation.train.trainer import train_lora

    if threads is not None:
        torch.set_num_threads(threads)
    start = time.monotonic()
    base = model_folder(BaseSpec(model=recipe.base, revision=recipe.revision), folder)
    pipeline = load_pipeline(base, recipe.dtype, torch.device(choose_device(device)))
    notes: list[str] = []
    trained = train_lora(pipeline, recipe, folder, out, prior, lambda *_: None, out.with_suffix(".training"), notes.append)
    done = (
        f"{out}: rank {recipe.rank}, {trained.parameters} numbers, loss {trained.first_loss:.4f} to {trained.last_loss:.4f}, "
        f"{time.monotonic() - start:.0f} s"
    )
    return "\n".join([*notes, done])
