"""Signatures: the recipe of a score in one line; the same recipe gives the same line, another recipe another."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from evalkit.io.image_reader import VERSION as PIXELS_VERSION

DEFAULT_PRESET = "dreambooth"
# The place of the preset among the parts of a signature that has one; what it means for the features stands before it.
PRESET_PART = 6
PRESET_MARK = "preset:"


@dataclass(frozen=True)
class ModelRecipe:
    """How a model turns a picture into features."""

    # architecture, or for a model described by a folder the hash of that description
    model: str
    # of the weight files; empty where there are none
    sha256: str
    # from 8-bit RGB to the model's input: pil-bicubic-224-center
    preparation: str
    precision: str
    # packages whose version can change a value: open_clip3.3.0
    libraries: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return what names the features of this recipe in a cache; the weights count in full."""
        parts = (self.model, self.sha256, self.preparation, self.precision, *self.libraries, f"pixels{PIXELS_VERSION}")
        return "|".join(parts)


def package_version(package: str) -> str:
    """Return the installed version of a package, without a local part such as +cpu."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "-absent"


def stamp(package: str, label: str | None = None) -> str:
    """Return a package with its version as it stands in a recipe: timm1.0.31; torch counts to the minor version only."""
    number = package_version(package)
    if package == "torch":
        number = ".".join(number.split(".")[:2])
    return f"{label or package}{number}"


def sign(metric: str, recipe: ModelRecipe, reduction: str, preset: str = "") -> str:
    """Return a metric's signature: name, model, weights, preparation, precision, from features to score, preset, versions.

    Metrics that no preset concerns name none.

    >>> recipe = ModelRecipe("tiny", "40d3657159" + 54 * "0", "pil-bicubic-64-center", "fp32", ("open_clip3.3.0",))
    >>> sign("clip_t", recipe, "cos", "dreambooth").rpartition("|ev")[0]
    'clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|cos|preset:dreambooth|open_clip3.3.0'
    """
    weights = f"sha:{recipe.sha256[:8]}" if recipe.sha256 else "no-weights"
    parts = (
        metric, recipe.model, weights, recipe.preparation, recipe.precision, reduction,
        *([PRESET_MARK + preset] if preset else []), *recipe.libraries, "ev0.1.0",
    )  # fmt: skip
    if any("|" in part for part in parts):
        raise ValueError(f"a part of the signature holds '|': {parts}")
    return "|".join(parts)


def preset_of(signature: str) -> str:
    """Return the preset that a signature names; one that names none stands for the default.

    >>> preset_of("clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|100*cos|preset:torchmetrics|ev0.1.0")
    'torchmetrics'
    >>> preset_of("piqe|piqe|no-weights|native-size|fp32|score|pyiqa0.1.16|ev0.1.0")
    'dreambooth'
    """
    part = signature.split("|")[PRESET_PART]
    return part.removeprefix(PRESET_MARK) if part.startswith(PRESET_MARK) else DEFAULT_PRESET


def resigned(signature: str, reduction: str, preset: str) -> str:
    """Return a signature with another way from features to score, and the preset that has it.

    >>> resigned("clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|cos|preset:dreambooth|ev0.1.0", "100*cos", "torchmetrics")
    'clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|100*cos|preset:torchmetrics|ev0.1.0'
    """
    parts = signature.split("|")
    parts[PRESET_PART - 1 : PRESET_PART + 1] = [reduction, PRESET_MARK + preset]
    return "|".join(parts)
