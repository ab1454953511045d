"""The card of tinyworld's weights: what each file is, its sha256, and the command that trained it."""

import re
from pathlib import Path

from evalkit.io.atomic_files import sha256_file, write_atomic

CARD = "CARD.md"
DATE = "2026-11-22"
ROW = re.compile(r"^\| `(?P<path>[^`]+)` \| \d+ \| `(?P<sha256>[0-9a-f]{64})` \|", re.MULTILINE)

# What was trained how, in the order it was trained: title, the paths it wrote, command, minutes on a shared two-core machine.
STAGES = (
    ("Text encoders and tokenizers", r"base/(text_encoder|tokenizer)", "text --scenes 12000", "22"),
    (
        "Autoencoder, trained in three goes",
        r"base/vae",
        "vae --minutes 8 --scenes 6000`, `vae --minutes 8.5 --scenes 8000`, `vae --decoder-only --minutes 15 --scenes 12000",
        "36",
    ),
    ("UNet, trained in two goes", r"base/unet", "unet --minutes 43 --scenes 24000`, `unet --minutes 70 --scenes 40000", "113"),
    ("How the pipeline is put together", r"base/(scheduler|model_index)", "unet", "0"),
    ("CLIP", r"clip/", "clip --minutes 20", "20"),
    ("DINO", r"dino/", "dino --minutes 38 --scenes 20000", "38"),
    ("LoRAs", r"loras/", "loras --base FOLDER/base", "7"),
)

HEAD = f"""# Tinyworld's weights

Trained from nothing on images that this package renders; no other data, no other weights. Licence: Apache-2.0, as the package.
What they can and can't tell is in docs/tinyworld.md. All are safetensors; the pipeline and the LoRAs are in half precision.

Trained on {DATE}, on two cores of a CPU without a GPU, which other jobs shared. Every command below starts with
`python -m generation.tinyworld.train` and ends with `--out FOLDER`. Stages stop by the clock and so do not repeat bit by bit.
Each go ran with the code of the commit that brought its files; the last goes of autoencoder and UNet, and DINO, with today's.
"""


def listed(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that the card in `folder` lists, by its path there."""
    return {row["path"]: row["sha256"] for row in ROW.finditer((folder / CARD).read_text(encoding="utf-8"))}


def weight_files(folder: Path) -> list[str]:
    """Return the paths of all files in `folder` but the card, sorted, with /."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != CARD)


def write_card(folder: Path) -> None:
    """Write the card of the weights in `folder`."""
    paths, lines = weight_files(folder), [HEAD]
    for title, pattern, command, minutes in STAGES:
        lines.append(f"## {title}\n\n`{command}`: {minutes} minutes.\n\n| file | bytes | sha256 |\n|---|---|---|")
        for path in (path for path in paths if re.match(pattern, path)):
            lines.append(f"| `{path}` | {(folder / path).stat().st_size} | `{sha256_file(folder / path)}` |")
        lines.append("")
    write_atomic(folder / CARD, "\n".join(lines))
