"""Train one LoRA per concept of tinyworld by the shipped recipes, several at a time."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path


def recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by concept."""
    folder = Path(str(files("generation"))) / "tinyworld" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def train_loras(base: Path, out: Path, only: tuple[str, ...], workers: int, say: Callable[[str], None]) -> None:
    """Train the LoRAs of all concepts, or of those in `only`, on the pipeline in `base`; write them to `out`/loras."""
    wanted = {name: path for name, path in recipes().items() if not only or name in only}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(train_one, path, base, out) for path in wanted.values()]):
            say(done.result())


def train_one(recipe: Path, base: Path, out: Path) -> str:
    """Train one recipe on the pipeline in `base`, with one thread, and return a line about it."""
    import torch

    from generation.pipeline import load_pipeline
    from generation.train.recipe import read_recipe
    from generation.train.trainer import train_lora

    torch.set_num_threads(1)
    start = time.monotonic()
    wanted = read_recipe(recipe)
    target = out / "loras" / f"{recipe.stem}.safetensors"
    trained = train_lora(load_pipeline(base), wanted, recipe.parent, target, out / "prior", lambda *_: None)
    return (
        f"{recipe.stem}: rank {wanted.rank}, {trained.parameters} numbers, "
        f"loss {trained.first_loss:.4f} to {trained.last_loss:.4f}, "
        f"{target.stat().st_size // 1024} kB, {time.monotonic() - start:.0f} s"
    )
