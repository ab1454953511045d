"""What a training run leaves on its way: a checkpoint to go on from, losses as a table and a picture, sample images."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from PIL import Image
from torch import Generator, nn

from evalkit.errors import UserError
from evalkit.io.atomic_files import temporary_beside, write_atomic
from generation.train.recipe import TrainingRecipe
from generation.train.training_images import Captioned

Row = Mapping[str, float]


class Checkpoint:
    """The state of one training run, and the folder its checkpoint is kept in.

    It holds the trained weights, the optimizer and all generators, so a run that goes on from it ends, on the CPU, with the
    same bits as one that was never stopped.
    """

    def __init__(
        self,
        folder: Path,
        recipe: TrainingRecipe,
        images: Sequence[Captioned],
        weights: Sequence[nn.Parameter],
        optimizer: Any,  # noqa: ANN401 - accelerate's wrapper has no types
        generators: Sequence[Generator],
    ) -> None:
        self.path, self.of = folder / "checkpoint.pt", _fingerprint(recipe, images)
        self.weights, self.optimizer, self.generators = weights, optimizer, generators

    def write(self, rows: Sequence[Row]) -> None:
        """Keep the state after the steps whose losses `rows` holds; the last checkpoint stays until this one is whole."""
        state = {
            "of": self.of,
            "rows": [dict(row) for row in rows],
            "weights": [weight.data for weight in self.weights],
            "optimizer": self.optimizer.state_dict(),
            "generators": [generator.get_state() for generator in self.generators],
        }
        with temporary_beside(self.path) as temporary:
            torch.save(state, temporary)

    def read(self) -> list[Row]:
        """Put the kept state back and return the losses of the steps that are done; none where nothing was kept.

        Raises:
            UserError: what is kept is broken, or of another recipe or other images.
        """
        if not self.path.is_file():
            return []
        if not is_zipfile(self.path):
            raise UserError(f"{self.path}: is no whole checkpoint; delete it to begin anew")
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["of"] != self.of:
            raise UserError(
                f"{self.path}: is of another recipe or other images; delete it to begin anew, or give another --out"
            )
        for weight, kept in zip(self.weights, state["weights"], strict=True):
            weight.data.copy_(kept)
        self.optimizer.load_state_dict(state["optimizer"])
        for generator, kept in zip(self.generators, state["generators"], strict=True):
            generator.set_state(kept)
        rows: list[Row] = state["rows"]
        return rows

    def remove(self) -> None:
        """Take the checkpoint away: the run is at its end."""
        self.path.unlink(missing_ok=True)


def _fingerprint(recipe: TrainingRecipe, images: Sequence[Captioned]) -> str:
    """Return what stands for all that decides a run: the recipe, and the pictures and prompts it learns from."""
    digest = hashlib.sha256(recipe.model_dump_json().encode())
    for image, prompt in images:
        digest.update(image.tobytes() + prompt.encode())
    return digest.hexdigest()


def write_losses(folder: Path, rows: Sequence[Row]) -> None:
    """Write `losses.csv`, one row per step with the whole and each unweighted term, and its picture `losses.svg`."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(folder / "losses.csv", stream.getvalue())
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    width = max(1, len(rows) // 20)
    for name in list(rows[0])[1:]:
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        smooth = values.unfold(0, width, 1).mean(1)
        axes.plot(range(width, len(rows) + 1), smooth.tolist(), label=name.replace("_", " "))
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss, mean of {width} steps")
    axes.legend(frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg")
    write_atomic(folder / "losses.svg", drawn.getvalue())


def write_samples(folder: Path, step: int, images: Sequence[Image.Image]) -> None:
    """Write the images drawn after a step side by side, as `samples/<step>.png`."""
    wide = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    at = 0
    for image in images:
        wide.paste(image, (at, 0))
        at += image.width
    drawn = io.BytesIO()
    wide.save(drawn, "PNG")
    write_atomic(folder / "samples" / f"{step:06}.png", drawn.getvalue())
