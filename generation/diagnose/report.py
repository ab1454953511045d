"""Tables (CSV, Markdown) and figures (SVG) of a diagnosis."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evalkit.io.atomic_files import write_atomic
from evalkit.metric_spec.histograms import REACH, Counts, density
from generation.diagnose.layer_outputs import InputCrosstalk, OutputOverlap, OutputStrength
from generation.diagnose.pairwise_overlap import PairOverlap
from generation.diagnose.sign_conflicts import SignConflict
from generation.families import in_denoiser


def write_table(folder: Path, name: str, rows: Sequence[Any]) -> None:
    """Write dataclasses as `<name>.csv`, one row each."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(asdict(rows[0])), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_atomic(folder / f"{name}.csv", stream.getvalue())


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table, numbers to four digits."""
    lines = ["| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        cells = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def by_pair(overlaps: Sequence[PairOverlap]) -> list[dict[str, Any]]:
    """Return the means over layers of every two LoRAs."""
    rows = []
    for first, second in dict.fromkeys((pair.first, pair.second) for pair in overlaps):
        matching = [pair for pair in overlaps if (pair.first, pair.second) == (first, second)]
        mean = {
            name: float(np.mean([getattr(pair, name) for pair in matching]))
            for name in ("cosine", "input_overlap", "output_overlap", "crosstalk")
        }
        absolute = float(np.mean([abs(pair.cosine) for pair in matching]))
        rows.append(
            {
                "first": first,
                "second": second,
                "layers": len(matching),
                "cosine": mean["cosine"],
                "absolute cosine": absolute,
                "input overlap": mean["input_overlap"],
                "output overlap": mean["output_overlap"],
                "crosstalk": mean["crosstalk"],
            }
        )
    return rows


def by_arm(overlaps: Sequence[OutputOverlap], strengths: Sequence[OutputStrength]) -> list[dict[str, Any]]:
    """Return the means over layers, steps and pairs of the overlap and strength of every arm's LoRAs."""
    rows = []
    for arm in dict.fromkeys(row.arm for row in strengths):
        pairs, norms = [row for row in overlaps if row.arm == arm], [row for row in strengths if row.arm == arm]
        rows.append(
            {
                "arm": arm,
                "mean absolute inner product": float(np.mean([row.mean_inner for row in pairs])) if pairs else 0.0,
                "largest": max((row.max_inner for row in pairs), default=0.0),
                "mean absolute cosine": float(np.mean([abs(row.cosine) for row in pairs])) if pairs else 0.0,
                "together": float(np.mean([row.together for row in norms])),
                "strength of the sum": float(np.mean([row.before for row in norms])),
                "strength of the merge": float(np.mean([row.after for row in norms])),
            }
        )
    return rows


def by_crosstalk(overlaps: Sequence[InputCrosstalk]) -> list[dict[str, Any]]:
    """Return the means over layers of each LoRA's effect on the inputs of another's images."""
    rows = []
    for drawn, acting in dict.fromkeys((row.drawn, row.acting) for row in overlaps):
        matching = [row for row in overlaps if (row.drawn, row.acting) == (drawn, acting)]
        means = {name: float(np.mean([getattr(row, name) for row in matching])) for name in ("crosstalk", "strength")}
        rows.append({"drawn": drawn, "acting": acting, "layers": len(matching), **means})
    return rows


def draw_cosines(folder: Path, overlaps: Sequence[PairOverlap]) -> None:
    """Draw each layer's mean |cosine| over all pairs, in the order of the layers' names (BlockLoRA, Figure 4 left)."""
    layers = sorted({pair.layer for pair in overlaps})
    means = [float(np.mean([abs(pair.cosine) for pair in overlaps if pair.layer == layer])) for layer in layers]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(layers)), means, width=1.0)
    axes.set_xlabel("layer, by name")
    axes.set_ylabel("mean |cosine| of pairs")
    _save(figure, folder / "cosines.svg")


def draw_overlaps(folder: Path, overlaps: Sequence[OutputOverlap]) -> None:
    """Draw, for every arm, the mean |cosine| of LoRAs' outputs against the step."""
    _by_step(folder / "output_overlap.svg", overlaps, lambda row: abs(row.cosine), "mean |cosine| of outputs")


def draw_strengths(folder: Path, strengths: Sequence[OutputStrength]) -> None:
    """Draw, for every arm, how strong what it adds is against the step."""
    _by_step(folder / "strengths.svg", strengths, lambda row: row.after, "merge over layer's own output")


def _by_step(path: Path, rows: Sequence[Any], value: Callable[[Any], float], label: str) -> None:
    """Draw means over the UNet's layers."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for arm in dict.fromkeys(row.arm for row in rows):
        by_step: dict[int, list[float]] = {}
        for row in rows:
            if row.arm == arm and in_denoiser(row.layer):
                by_step.setdefault(row.step, []).append(value(row))
        axes.plot(
            sorted(by_step),
            [float(np.mean(by_step[step])) for step in sorted(by_step)],
            "o-",
            markersize=3,
            label=arm,
            clip_on=False,
        )
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step, the noisiest first")
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    _save(figure, path)


def draw_conflicts(folder: Path, conflicts: Sequence[SignConflict]) -> None:
    """Draw sign conflicts and cancelled magnitude against the number of LoRAs, each with its chance line."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    counts = [row.count for row in conflicts]
    for name, colour in (("conflicting", "tab:blue"), ("cancelled", "tab:orange")):
        axes.plot(counts, [getattr(row, name) for row in conflicts], "o-", color=colour, label=name)
        axes.plot(
            counts, [getattr(row, f"{name}_by_chance") for row in conflicts], "--", color=colour, label=f"{name}, by chance"
        )
    axes.set_xticks(counts)
    axes.set_ylim(0, 1)
    axes.set_xlabel("LoRAs")
    axes.set_ylabel("share")
    axes.legend(frameon=False)
    _save(figure, folder / "signs.svg")


def draw_latents(folder: Path, sides: Mapping[str, Counts]) -> None:
    """Draw the histograms of all latent values by name (NCR, Figure 6)."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, counts in sides.items():
        shares = density(counts.sum((0, 1)))[1:-1]
        width = 2 * REACH / len(shares)
        axes.stairs(shares / width, np.linspace(-REACH, REACH, len(shares) + 1), label=name)
    axes.set_xlabel("latent value")
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    _save(figure, folder / "latents.svg")


def _save(figure: Figure, path: Path) -> None:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg")
    write_atomic(path, drawn.getvalue())
