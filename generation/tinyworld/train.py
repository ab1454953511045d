"""Train tinyworld from nothing: `python -m generation.tinyworld.train STAGE --out FOLDER`.

The order is text, vae, unet, clip, dino, loras. On two CPU cores `text` takes 10 minutes and `loras` 10; the others take as
long as `--minutes` states, and anneal by the clock, so more time gives better weights and a run can't be repeated bit by bit.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

app = typer.Typer(add_completion=False, help=__doc__)
log = logging.getLogger("tinyworld")
Out = Annotated[Path, typer.Option(help="Folder to write the weights to.")]
Scenes = Annotated[int, typer.Option(help="How many rendered scenes to train on.")]


def say(message: str) -> None:
    """Log a line with the time of day."""
    log.info("%s %s", time.strftime("%H:%M:%S"), message)


def scenes_and_odd_objects(count: int, seed: int, two: float) -> "NDArray[np.uint8]":
    """Return `count` images, half of them scenes, of which a share `two` holds two objects."""
    import numpy as np

    from generation.tinyworld.pools import draw_odd_objects, draw_pool

    half = count // 2
    return np.concatenate([draw_pool(half, seed, two=two).images, draw_odd_objects(count - half, seed + 1)])


@app.callback()
def begin() -> None:
    """Train tinyworld, stage by stage."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@app.command()
def text(out: Out, scenes: Scenes = 16_000) -> None:
    """Train the two text encoders and write their tokenizers."""
    from generation.tinyworld.pools import draw_pool
    from generation.tinyworld.train_text import RECIPES, train_text_encoder

    pool = draw_pool(scenes, seed=11)
    say(f"{scenes} scenes rendered")
    for recipe in RECIPES:
        say(f"{recipe.folder}: in-batch top-1 of 96: {train_text_encoder(recipe, pool, out, say):.3f}")


@app.command()
def vae(
    out: Out,
    minutes: float = 8,
    scenes: Scenes = 12_000,
    decoder_only: Annotated[bool, typer.Option("--decoder-only", help="Keep the latents; sharpen the decoded images.")] = False,
) -> None:
    """Train the VAE, or resume its training: on scenes, and on odd objects, so that looks no scene shows survive it."""
    from generation.tinyworld.train_vae import train_vae

    say(f"vae: L1 {train_vae(scenes_and_odd_objects(scenes, 12, two=0.4), out, minutes, say, decoder_only):.4f}")


@app.command()
def unet(out: Out, minutes: float = 60, scenes: Scenes = 40_000) -> None:
    """Train the UNet and complete the pipeline folder."""
    from generation.tinyworld.assemble import write_pipeline
    from generation.tinyworld.pools import draw_pool
    from generation.tinyworld.train_unet import train_unet

    train_unet(draw_pool(scenes, seed=13), out, minutes, say)
    write_pipeline(out)


@app.command()
def clip(out: Out, minutes: float = 10, scenes: Scenes = 12_000) -> None:
    """Train the CLIP that scores images, in open_clip's format."""
    from generation.tinyworld.pools import draw_pool
    from generation.tinyworld.train_encoders import train_clip

    say(f"clip: in-batch top-1 of 96: {train_clip(draw_pool(scenes, seed=14), out, minutes, say):.3f}")


@app.command()
def dino(out: Out, minutes: float = 10, scenes: Scenes = 12_000) -> None:
    """Train the ViT that compares images, without labels, in timm's format: on scenes, and on as many odd objects."""
    from generation.tinyworld.train_encoders import train_dino

    train_dino(scenes_and_odd_objects(scenes, 15, two=0.0), out, minutes, say)


@app.command()
def loras(
    out: Out,
    base: Annotated[Path, typer.Option(help="The pipeline folder to train on.")],
    only: Annotated[list[str] | None, typer.Option(help="Train these concepts alone.")] = None,
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
) -> None:
    """Train one LoRA per concept, by the recipes that come with the package."""
    from generation.tinyworld.train_loras import train_loras

    train_loras(base, out, tuple(only or ()), workers, say)


@app.command()
def ship(out: Out, base: Annotated[Path, typer.Option(help="The trained pipeline folder.")]) -> None:
    """Write the pipeline in half precision, as it is shipped, to OUT/base."""
    from generation.tinyworld.assemble import ship as write

    write(base, out / "base")


@app.command()
def card(out: Out) -> None:
    """Write the card of finished weights: every file with its sha256 and the command that made it."""
    from generation.tinyworld.card import write_card

    write_card(out)


if __name__ == "__main__":
    app()
