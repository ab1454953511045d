"""Images, prompts and references as a caller passes them, checked and turned into image requests."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image

from evalkit.errors import UserError, first_line
from evalkit.io.atomic_files import sha256_bytes
from evalkit.io.image_arrays import ValueRange, is_array, to_image, unbatched
from evalkit.io.image_reader import Pixels, convert, decode, fingerprint, read_bytes
from evalkit.plural import plural
from evalkit.scoring.arguments import iterable
from evalkit.scoring.feature_extraction import file_loader
from evalkit.scoring.image_requests import FeatureRequest, ScoringProblem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# An array is H x W x 3, a tensor 3 x H x W. Several images may be one array N x H x W x 3 or one tensor N x 3 x H x W.
ImageInput: TypeAlias = "str | PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor"
ImageInputs: TypeAlias = "Sequence[ImageInput] | NDArray[Any] | Tensor"


def references_by_concept(references: "ImageInputs | Mapping[str, ImageInputs] | None") -> dict[str, Sequence[ImageInput]]:
    """Return references by concept; a plain list is one concept with an empty name."""
    if references is None:
        return {}
    groups = dict(references) if isinstance(references, Mapping) else {"": references}
    concepts: dict[str, Sequence[ImageInput]] = {}
    for concept, group in groups.items():
        where = f"references{f' of {concept}' if concept else ''}"
        concepts[concept] = flat_images(group, where)
        if not concepts[concept]:
            raise UserError(f"{where}: give a list of at least one image")
    return concepts


def prompt_per_image(prompts: str | Sequence[str] | None, count: int) -> list[str] | None:
    """Return one prompt for each of `count` images, or None without prompts."""
    if prompts is None:
        return None
    texts = [prompts] * count if isinstance(prompts, str) else list(iterable("prompts", prompts, "a text, or a list of texts"))
    if len(texts) != count:
        raise UserError(f"{plural(len(texts), 'prompt')} for {plural(count, 'image')}; give one for all, or one for each")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"prompts[{index}]: is of type {type(text).__name__}; give a text")
        if not text.strip():
            raise UserError(f"prompts[{index}]: is empty; give a prompt for every image")
    return texts


def flat_images(images: Any, where: str) -> list[Any]:  # noqa: ANN401 -- any input of a caller
    """Return images one by one: batches of arrays or tensors are taken apart, dictionaries give their "image".

    Raises:
        UserError: it is a single image, or not a collection of images.
    """
    flat: list[Any] = []
    for index, entry in enumerate(unbatched(images, where)):
        if isinstance(entry, Mapping):
            if "image" not in entry:
                raise UserError(f"{where}[{index}]: is a dictionary without an 'image'; give images, or {{'image': ...}}")
            image = entry["image"]
        else:
            image = entry
        if (is_array(image) and image.ndim == 4) or isinstance(image, (list, tuple)):
            flat.extend(image)
        else:
            flat.append(image)
    return flat


def try_image_request(
    image: ImageInput, where: str, models: tuple[str, ...], value_range: ValueRange | None, problems: list[ScoringProblem]
) -> FeatureRequest | None:
    """Return the request of `image_request`; None, and a problem, if the image can't be opened."""
    try:
        return image_request(image, where, models, value_range)
    except UserError as error:
        problems.append(ScoringProblem(where, "", "", str(error)))
        return None


def image_request(image: ImageInput, where: str, models: tuple[str, ...], value_range: ValueRange | None) -> FeatureRequest:
    """Return the request to extract an image's features; its name is the path, or `where` for an image in memory.

    Raises:
        UserError: it is not an image, or reading it fails.
    """
    try:
        return _request(image, where, models, value_range)
    except UserError:
        raise
    except Exception as error:
        # a closed PIL image, a sparse tensor, ...: whatever an object that a caller gave raises when it is read
        raise UserError(
            f"{where}: can't be read as an image ({type(error).__name__}: {first_line(error)}); give a uint8 array"
        ) from error


def _request(image: ImageInput, where: str, models: tuple[str, ...], value_range: ValueRange | None) -> FeatureRequest:
    if isinstance(image, (bytes, bytearray)):
        data = bytes(image)
        return FeatureRequest(sha256_bytes(data), where, lambda: decode(data, where), models)
    if is_array(image):
        image = to_image(image, where, value_range)
    if isinstance(image, Image.Image):

        def load(image: Image.Image = image) -> Pixels:
            return convert(image, where)

        return FeatureRequest(fingerprint(image), where, load, models)
    if not isinstance(image, (str, PathLike)):
        raise UserError(
            f"{where}: is of type {type(image).__name__}, not an image; "
            "give a path, a PIL image, a uint8 array H x W x 3 or a uint8 tensor 3 x H x W"
        )
    path = Path(image)
    key = sha256_bytes(read_bytes(path))
    return FeatureRequest(key, str(path), file_loader(path, key), models)
