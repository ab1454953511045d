"""Train one LoRA per concept of tinyworld by the shipped recipes, several at a time."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path


def recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by concept."""
    folder = Path(str(files("generation"))) / "tinyworld" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def train_loras(base: Path, out: Path, only: tuple[str, ...], workers: int, say: Callable[[str], None]) -> None:
    """Train the LoRAs of all concepts, or of those in `only`, on the pipeline in `base`, into `out`/loras."""
    from generation.train.recipe import read_recipe
    from generation.train.series import train_series

    wanted = {
        out / "loras" / path.name.replace(".toml", ".safetensors"): read_recipe(path).model_copy(
            update={"base": str(base.resolve())}
        )
        for name, path in recipes().items()
        if not only or name in only
    }
    train_series(wanted, Path(), out / "prior", None, workers, say)
