"""Path lookup of the files an experiment names: base model, LoRA files, references."""

from collections.abc import Iterator
from pathlib import Path

from evalkit.errors import UserError
from generation.experiment import TINYWORLD, Base, Concept
from generation.lora.lora_file import find_adapter
from generation.pipeline import find_model

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def model_folder(base: Base, folder: Path) -> Path:
    """Return the folder of the base model; a hub id is fetched."""
    if base.model == TINYWORLD:
        from generation.tinyworld import weights_folder

        return find_model(str(weights_folder() / "base"))
    local = folder / base.model
    return find_model(str(local) if local.is_dir() else base.model, base.revision)


def is_remote(concept: Concept, folder: Path) -> bool:
    """Return whether the concept's LoRA comes from the hub."""
    return concept.adapter != TINYWORLD and concept.weight_name is not None and not (folder / concept.adapter).is_dir()


def adapter_file(concept: Concept, folder: Path, adapters: str | None = None) -> Path:
    """Return the concept's LoRA file, or the one in an arm's folder `adapters`; one of the hub is fetched."""
    if adapters is not None:
        return find_adapter(f"{adapters}/{concept.name}.safetensors", None, None, folder)
    if concept.adapter == TINYWORLD:
        from generation.tinyworld import weights_folder

        return find_adapter(f"{concept.name}.safetensors", None, None, weights_folder() / "loras")
    return find_adapter(concept.adapter, concept.weight_name, concept.revision, folder)


def embeddings_file(concept: Concept, folder: Path) -> Path | None:
    """Return the file of the concept's new words, if it has any.

    Raises:
        UserError: the file is missing.
    """
    if concept.embeddings is None:
        return None
    path = folder / concept.embeddings
    if not path.is_file():
        raise UserError(f"{path}: no such file of embeddings; give the one that evalkit train wrote beside the LoRA")
    return path


def metric_weights(name: str, value: str, folder: Path) -> Path:
    """Return the path of the weights of a metric's model.

    Raises:
        UserError: there is nothing.
    """
    if value == TINYWORLD:
        from generation.tinyworld import weights_folder

        place = weights_folder() / name
    else:
        place = folder / value
    if not place.exists():
        raise UserError(f"{place}: no such file or folder of weights")
    return place.resolve()


def references(concept: Concept, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield suffix and bytes of the concept's reference images, in the order of their names.

    Raises:
        UserError: the folder is missing or contains no image.
    """
    if concept.references is None:
        return
    if concept.references == TINYWORLD:
        yield from _rendered(concept)
        return
    place = folder / concept.references
    if not place.is_dir():
        raise UserError(f"{place}: no such folder of reference images")
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    if not found:
        raise UserError(f"{place}: holds no reference image; give files that end in {', '.join(PICTURES)}")
    for path in found:
        yield path.suffix.lower(), path.read_bytes()


def _rendered(concept: Concept) -> Iterator[tuple[str, bytes]]:
    from io import BytesIO

    from PIL import Image

    from generation.tinyworld.concepts import ALL_CONCEPTS, REFERENCES

    if concept.name not in ALL_CONCEPTS:
        raise UserError(f"tinyworld has no concept {concept.name!r}; it has {', '.join(ALL_CONCEPTS)}")
    for number in range(REFERENCES):
        buffer = BytesIO()
        Image.fromarray(ALL_CONCEPTS[concept.name].reference(number)).save(buffer, "PNG")
        yield ".png", buffer.getvalue()
