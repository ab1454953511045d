"""Hub requirements of an experiment: its base model and LoRAs, with the functions that download them."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from evalkit.errors import UserError
from evalkit.run.file_record import first_mistake
from generation.experiment import TINYWORLD, BaseSpec, ConceptSpec, find_experiment
from generation.paths import adapter_file, is_remote, model_folder


@dataclass(frozen=True)
class HubRequirements:
    """Downloads by name of base model or LoRA, and the metric models whose weights the experiment provides."""

    downloads: dict[str, Callable[[], Path]]
    provided: frozenset[str]


def hub_requirements(wish: str) -> HubRequirements:
    """Return the hub requirements of an experiment file or a shipped experiment.

    Raises:
        UserError: the experiment does not exist, or its base or concepts are not valid.
    """
    path, folder = find_experiment(wish)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        base = BaseSpec.model_validate(raw.get("base", {}))
        concepts = [ConceptSpec.model_validate(entry) for entry in raw.get("concepts", [])]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: is not a readable TOML file ({error}); correct the file") from error
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}") from error
    downloads: dict[str, Callable[[], Path]] = {}
    if base.model != TINYWORLD and not (folder / base.model).is_dir():
        downloads[f"base model {base.model}"] = partial(model_folder, base, folder)
    for concept in concepts:
        if is_remote(concept, folder):
            downloads[f"LoRA {concept.adapter}/{concept.weight_name}"] = partial(adapter_file, concept, folder)
    return HubRequirements(downloads, frozenset(raw.get("weights", {})))
