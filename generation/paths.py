"""Path lookup of the files that an experiment names: base model, LoRAs, embeddings, references, metric weights."""

from collections.abc import Iterator
from pathlib import Path

from evalkit.errors import UserError
from generation.experiment import TINYWORLD, BaseSpec, ConceptSpec
from generation.lora.lora_file import find_adapter
from generation.pipeline import find_model

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def model_folder(base: BaseSpec, folder: Path) -> Path:
    """Return the folder of the base model; a hub id is downloaded."""
    if base.model == TINYWORLD:
        from generation.tinyworld import weights_folder

        return find_model(str(weights_folder() / "base"))
    local = folder / base.model
    return find_model(str(local) if local.is_dir() else base.model, base.revision)


def is_remote(concept: ConceptSpec, folder: Path) -> bool:
    """Return whether the concept's LoRA comes from the hub."""
    return concept.adapter != TINYWORLD and concept.weight_name is not None and not (folder / concept.adapter).is_dir()


def adapter_file(concept: ConceptSpec, folder: Path, adapters: str | None = None) -> Path:
    """Return the concept's LoRA file, or the one in an arm's folder `adapters`; a hub file is downloaded."""
    if adapters is not None:
        return find_adapter(f"{adapters}/{concept.name}.safetensors", None, None, folder)
    if concept.adapter == TINYWORLD:
        from generation.tinyworld import weights_folder

        return find_adapter(f"{concept.name}.safetensors", None, None, weights_folder() / "loras")
    return find_adapter(concept.adapter, concept.weight_name, concept.revision, folder)


def embeddings_file(concept: ConceptSpec, folder: Path) -> Path | None:
    """Return the file of the concept's token embeddings, or None if it has none.

    Raises:
        UserError: the file does not exist.
    """
    if concept.embeddings is None:
        return None
    path = folder / concept.embeddings
    if not path.is_file():
        raise UserError(f"{path}: no such file of token embeddings; give the file that evalkit train wrote next to the LoRA")
    return path


def metric_weights(name: str, value: str, folder: Path) -> Path:
    """Return the path of the weights of a metric's model.

    Raises:
        UserError: the path does not exist.
    """
    if value == TINYWORLD:
        from generation.tinyworld import weights_folder

        path = weights_folder() / name
    else:
        path = folder / value
    if not path.exists():
        raise UserError(f"{path}: no such file or folder of weights; correct the entry in [weights]")
    return path.resolve()


def references(concept: ConceptSpec, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield suffix and bytes of the concept's reference images, in the order of their names.

    Raises:
        UserError: the folder does not exist, or contains no image.
    """
    if concept.references is None:
        return
    if concept.references == TINYWORLD:
        yield from _rendered(concept)
        return
    source = folder / concept.references
    if not source.is_dir():
        raise UserError(f"{source}: no such folder of reference images; correct `references`")
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
    if not files:
        raise UserError(f"{source}: contains no reference image; add files that end in {', '.join(IMAGE_SUFFIXES)}")
    for path in files:
        yield path.suffix.lower(), path.read_bytes()


def _rendered(concept: ConceptSpec) -> Iterator[tuple[str, bytes]]:
    from io import BytesIO

    from PIL import Image

    from generation.tinyworld.concepts import ALL_CONCEPTS, REFERENCES

    if concept.name not in ALL_CONCEPTS:
        raise UserError(f"tinyworld has no concept {concept.name!r}; it has {', '.join(ALL_CONCEPTS)}")
    for number in range(REFERENCES):
        buffer = BytesIO()
        Image.fromarray(ALL_CONCEPTS[concept.name].reference(number)).save(buffer, "PNG")
        yield ".png", buffer.getvalue()
