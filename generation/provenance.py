"""What a run was made with: versions, device, threads, commit, files by sha256, and the experiment as it was read."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, JsonValue, ValidationError

from evalkit import __version__
from evalkit.io.atomic_files import sha256_bytes, sha256_file
from evalkit.run.file_record import Record, Sha256
from generation.timings import Tally

FILE_NAME = "provenance.json"
PACKAGES = ("diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")
MODEL_FILES = (".json", ".safetensors", ".txt")


class Provenance(Record):
    """Stored next to the manifest; records how to reproduce the run."""

    experiment_sha256: Sha256
    # the experiment with every default and every case spelt out, and the file's own text
    experiment: dict[str, JsonValue]
    experiment_text: str
    model_sha256: Sha256
    adapters_sha256: dict[str, Sha256]
    # files of new words, by concept
    embeddings_sha256: dict[str, Sha256] = Field(default_factory=dict)
    # alpha / rank of every LoRA: the lowest and the highest over its layers
    adapter_scales: dict[str, tuple[float, float]]
    mask_seeds: dict[str, int]
    versions: dict[str, str]
    commit: str | None
    machine: str
    device: str
    dtype: str
    threads: int
    batch_size: int
    # per arm: seconds spent putting LoRAs into the model, and drawing; of all calls that came to their end
    merge_seconds: dict[str, float] = Field(default_factory=dict)
    drawing_seconds: dict[str, float] = Field(default_factory=dict)
    # per arm whose method compresses, and the concepts it merged: squared norm kept, that of the exact sum; and the arm's share
    energies: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    energy_kept: dict[str, float] = Field(default_factory=dict)

    @property
    def tally(self) -> Tally:
        """Return what drawing took and merging kept so far."""
        return Tally(dict(self.merge_seconds), dict(self.drawing_seconds), dict(self.energies))

    def having(self, tally: Tally) -> "Provenance":
        """Return the same with another tally."""
        return self.model_copy(
            update={
                "merge_seconds": dict(tally.merge),
                "drawing_seconds": dict(tally.drawing),
                "energies": {arm: dict(found) for arm, found in tally.energies.items()},
                "energy_kept": tally.energy_kept(),
            }
        )


def read(path: Path) -> Provenance | None:
    """Return the provenance that a call before this one left, if it is there and whole."""
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def model_sha256(folder: Path) -> str:
    """Return one sha256 for a model folder: of the names and sha256s of its configuration and safetensors files."""
    found = sorted(
        path for path in folder.rglob("*") if path.suffix in MODEL_FILES and path.is_file() and not path.name.startswith(".")
    )
    listing = "\n".join(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in found)
    return sha256_bytes(listing.encode())


def versions() -> dict[str, str]:
    """Return the installed version of every package that decides pixels."""
    # torch's own word also says which build it is
    found = {"python": platform.python_version(), "evalkit": __version__, "torch": torch.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit this package is checked out at, marked where files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # a virtual environment may lie inside somebody else's repository
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = git("rev-parse", "HEAD")
    return f"{head}+changes" if head and git("status", "--porcelain", "--untracked-files=no", ".") else head


def machine(device: torch.device) -> str:
    """Return the kind of processor images are drawn on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def as_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return canonical JSON: sorted keys, no spaces; what experiments are hashed by."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
