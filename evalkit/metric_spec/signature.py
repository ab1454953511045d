"""Signatures: the recipe of a score in one line, which changes exactly when the number can change."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from evalkit.io.image_reader import VERSION as PIXELS_VERSION

DEFAULT_PRESET = "dreambooth"
# Position of the preset among the parts of a signature that has one; its effect on the features precedes it.
PRESET_PART = 6
PRESET_MARK = "preset:"


REVISION_MARK = "rev"
# begins the signature of a score that another tool computed
EXTERNAL_MARK = "external:"
# Until 0.1.0 a signature ended in evalkit's version, regardless of the code.
VERSION_MARK = re.compile(r"ev\d[^|]*")


@dataclass(frozen=True)
class ModelRecipe:
    """How a model turns an image into features."""

    # architecture, or for a model described by a folder the hash of that description
    model: str
    # of the weight files; empty if there are none
    sha256: str
    # from 8-bit RGB to the model's input: pil-bicubic-224-center
    preparation: str
    precision: str
    # packages whose version can change a value: open_clip3.3.0
    libraries: tuple[str, ...]
    # of the model's code: raise it in the change that makes features differ
    revision: int = 1

    @property
    def key(self) -> str:
        """Return the cache key of this recipe's features; it holds the weights' whole sha256."""
        revisions = f"{REVISION_MARK}{self.revision}.{PIXELS_VERSION}"
        parts = (self.model, self.sha256, self.preparation, self.precision, *self.libraries, revisions)
        return "|".join(parts)


# The name until 0.1.0, for metrics that others wrote.
Recipe = ModelRecipe


def package_version(package: str) -> str:
    """Return the installed version of a package, without a local part such as +cpu."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "-absent"


def stamp(package: str, label: str | None = None) -> str:
    """Return a package with its version as written in a recipe: timm1.0.31; torch counts to the minor version only."""
    number = package_version(package)
    if package == "torch":
        number = ".".join(number.split(".")[:2])
    return f"{label or package}{number}"


def sign(metric: str, recipe: ModelRecipe, reduction: str, preset: str = "", revision: int = 1) -> str:
    """Return the signature of a metric.

    Its parts are name, model, weights, preparation, precision, reduction of features to a score, preset (only for metrics
    that presets change), library versions, and the revisions of the metric, of the model's code and of the image reader.

    >>> sha256 = "40d3657159" + 54 * "0"
    >>> recipe = ModelRecipe("tiny", sha256, "pil-bicubic-64-center", "fp32", ("open_clip3.3.0",), revision=3)
    >>> sign("clip_t", recipe, "cos", "dreambooth", revision=2).rpartition(".")[0]
    'clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|cos|preset:dreambooth|open_clip3.3.0|rev2.3'
    """
    weights = f"sha:{recipe.sha256[:8]}" if recipe.sha256 else "no-weights"
    revisions = f"{REVISION_MARK}{revision}.{recipe.revision}.{PIXELS_VERSION}"
    parts = (
        metric, recipe.model, weights, recipe.preparation, recipe.precision, reduction,
        *([PRESET_MARK + preset] if preset else []), *recipe.libraries, revisions,
    )  # fmt: skip
    if any("|" in part for part in parts):
        raise ValueError(f"a part of the signature contains '|': {parts}")
    return "|".join(parts)


def revision_is_known(signature: str) -> bool:
    """Return whether a signature states revisions; those made by 0.1.0 and before state evalkit's version instead.

    >>> revision_is_known("piqe|piqe|no-weights|native-size|fp32|score|pyiqa0.1.16|ev0.1.0")
    False
    """
    return not VERSION_MARK.fullmatch(signature.rpartition("|")[2])


def displayed(signature: str) -> str:
    """Return a signature as tables print it: an unknown revision is named.

    >>> displayed("piqe|piqe|no-weights|native-size|fp32|score|pyiqa0.1.16|ev0.1.0")
    'piqe|piqe|no-weights|native-size|fp32|score|pyiqa0.1.16|revision unknown (ev0.1.0)'
    """
    if revision_is_known(signature):
        return signature
    rest, _, version_part = signature.rpartition("|")
    return f"{rest}|revision unknown ({version_part})"


def preset_of(signature: str) -> str:
    """Return the preset that a signature names; one that names none means the default.

    >>> preset_of("clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|100*cos|preset:torchmetrics|rev1.1.1")
    'torchmetrics'
    >>> preset_of("piqe|piqe|no-weights|native-size|fp32|score|pyiqa0.1.16|ev0.1.0")
    'dreambooth'
    """
    part = signature.split("|")[PRESET_PART]
    return part.removeprefix(PRESET_MARK) if part.startswith(PRESET_MARK) else DEFAULT_PRESET


def resigned(signature: str, reduction: str, preset: str) -> str:
    """Return a signature with another way from features to score, and the preset that has it.

    >>> resigned("clip_t|tiny|sha:40d36571|pil-bicubic-64|fp32|cos|preset:dreambooth|rev1.1.1", "100*cos", "torchmetrics")
    'clip_t|tiny|sha:40d36571|pil-bicubic-64|fp32|100*cos|preset:torchmetrics|rev1.1.1'
    """
    parts = signature.split("|")
    parts[PRESET_PART - 1 : PRESET_PART + 1] = [reduction, PRESET_MARK + preset]
    return "|".join(parts)
