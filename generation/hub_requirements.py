"""What an experiment takes from the hub, each with the very way in which drawing will look for it."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.run.file_record import first_mistake
from generation.experiment import TINYWORLD, Base, Concept, find_experiment
from generation.paths import adapter_file, is_remote, model_folder


@dataclass(frozen=True)
class HubNeeds:
    """Base model and LoRAs by name with what fetches them, and the models of metrics whose weights the experiment brings."""

    fetches: dict[str, Callable[[], Path]]
    brought: frozenset[str]


def hub_needs(wish: str) -> HubNeeds:
    """Return what an experiment file, or a shipped experiment, takes from the hub.

    Raises:
        UserError: the experiment is unknown, or its base or concepts can't be read.
    """
    path, folder = find_experiment(wish)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        base = Base.model_validate(raw.get("base", {}))
        concepts = [Concept.model_validate(entry) for entry in raw.get("concepts", [])]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}") from error
    fetches: dict[str, Callable[[], Path]] = {}
    if base.model != TINYWORLD and not (folder / base.model).is_dir():
        fetches[f"base model {base.model}"] = partial(model_folder, base, folder)
    for concept in concepts:
        if is_remote(concept, folder):
            fetches[f"LoRA {concept.adapter}/{concept.weight_name}"] = partial(adapter_file, concept, folder)
    return HubNeeds(fetches, frozenset(raw.get("weights", {})))
