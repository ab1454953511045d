"""Signatures: the recipe of a score in one line; the same recipe gives the same line, another recipe another."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from evalkit.pixels import VERSION as PIXELS_VERSION

PRESET = "dreambooth"


@dataclass(frozen=True)
class Recipe:
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


def sign(metric: str, recipe: Recipe, reduction: str) -> str:
    """Return a metric's signature: name, model, weights, preparation, precision, from features to score, preset, versions.

    >>> recipe = Recipe("tiny", "40d3657159" + 54 * "0", "pil-bicubic-64-center", "fp32", ("open_clip3.3.0",))
    >>> sign("clip_t", recipe, "cos").rpartition("|ev")[0]
    'clip_t|tiny|sha:40d36571|pil-bicubic-64-center|fp32|cos|preset:dreambooth|open_clip3.3.0'
    """
    weights = f"sha:{recipe.sha256[:8]}" if recipe.sha256 else "no-weights"
    parts = (
        metric, recipe.model, weights, recipe.preparation, recipe.precision, reduction, f"preset:{PRESET}",
        *recipe.libraries, stamp("evalkit", "ev"),
    )  # fmt: skip
    if any("|" in part for part in parts):
        raise ValueError(f"a part of the signature holds '|': {parts}")
    return "|".join(parts)
