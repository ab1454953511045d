"""Checkpoints, loss table and figure, and sample images of a training run."""

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
from generation.train.reference_folder import Captioned

Row = Mapping[str, float]


class Checkpoint:
    """State of one training run, and the folder of its checkpoint.

    It contains the trained weights, the optimizer and all generators. On the CPU a resumed run therefore ends with the same
    bits as an uninterrupted one.
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
        """Save the state after the steps whose losses are `rows`; replace the previous checkpoint when this one is complete."""
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
        """Restore the saved state and return the losses of the finished steps; empty if there is no checkpoint.

        Raises:
            UserError: the checkpoint is damaged, or belongs to another recipe or other images.
        """
        if not self.path.is_file():
            return []
        if not is_zipfile(self.path):
            raise UserError(f"{self.path}: is not a complete checkpoint; delete it to start again")
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["of"] != self.of:
            raise UserError(
                f"{self.path}: belongs to another recipe or other images; delete it to start again, or give another --out"
            )
        for weight, saved in zip(self.weights, state["weights"], strict=True):
            weight.data.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved)
        rows: list[Row] = state["rows"]
        return rows

    def remove(self) -> None:
        """Delete the checkpoint of a finished run."""
        self.path.unlink(missing_ok=True)


def _fingerprint(recipe: TrainingRecipe, images: Sequence[Captioned]) -> str:
    """Return a hash of everything that determines a run: the recipe, and the images and prompts it trains on."""
    digest = hashlib.sha256(recipe.model_dump_json().encode())
    for image, prompt in images:
        digest.update(image.tobytes() + prompt.encode())
    return digest.hexdigest()


def write_losses(folder: Path, rows: Sequence[Row]) -> None:
    """Write `losses.csv`, one row per step with the whole and each unweighted term, and its image `losses.svg`."""
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
