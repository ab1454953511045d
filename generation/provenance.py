"""Provenance of a run: versions, device, threads, commit, sha256 of files, and the resolved experiment."""

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
from generation.timings import GenerationStats

FILE_NAME = "provenance.json"
PACKAGES = ("diffusers", "transformers", "peft", "safetensors", "numpy", "pillow")
MODEL_FILES = (".json", ".safetensors", ".txt")


class Provenance(Record):
    """Everything needed to reproduce a run; stored next to the manifest."""

    experiment_sha256: Sha256
    # the experiment with every default and every case written out, and the text of its file
    experiment: dict[str, JsonValue]
    experiment_text: str
    model_sha256: Sha256
    adapters_sha256: dict[str, Sha256]
    # files of token embeddings (textual inversion), by concept
    embeddings_sha256: dict[str, Sha256] = Field(default_factory=dict)
    # alpha / rank of every LoRA: lowest and highest over its layers
    adapter_scales: dict[str, tuple[float, float]]
    mask_seeds: dict[str, int]
    versions: dict[str, str]
    commit: str | None
    machine: str
    device: str
    dtype: str
    threads: int
    batch_size: int
    # per arm: seconds of merging and of sampling, summed over all calls that finished
    merge_seconds: dict[str, float] = Field(default_factory=dict)
    drawing_seconds: dict[str, float] = Field(default_factory=dict)
    # per compressing arm and merged concepts: energy kept, energy of the exact sum; and the share the arm kept
    energies: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    energy_kept: dict[str, float] = Field(default_factory=dict)

    @property
    def stats(self) -> GenerationStats:
        """Return the statistics so far."""
        return GenerationStats(dict(self.merge_seconds), dict(self.drawing_seconds), dict(self.energies))

    def with_stats(self, stats: GenerationStats) -> "Provenance":
        """Return a copy with other statistics."""
        return self.model_copy(
            update={
                "merge_seconds": dict(stats.merge),
                "drawing_seconds": dict(stats.sampling),
                "energies": {arm: dict(energies) for arm, energies in stats.energies.items()},
                "energy_kept": stats.energy_kept(),
            }
        )


def read(path: Path) -> Provenance | None:
    """Return the provenance that an earlier call wrote, or None if it is absent or broken."""
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def model_sha256(folder: Path) -> str:
    """Return one sha256 for a model folder: that of the names and sha256 of its configuration and safetensors files."""
    files = sorted(
        path for path in folder.rglob("*") if path.suffix in MODEL_FILES and path.is_file() and not path.name.startswith(".")
    )
    listing = "\n".join(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in files)
    return sha256_bytes(listing.encode())


def versions() -> dict[str, str]:
    """Return the installed version of every package that affects pixels."""
    # torch's own version string also names the build
    installed = {"python": platform.python_version(), "evalkit": __version__, "torch": torch.__version__}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def commit() -> str | None:
    """Return the commit of this checkout, marked if files differ from it; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # a virtual environment may be inside another repository
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = git("rev-parse", "HEAD")
    return f"{head}+changes" if head and git("status", "--porcelain", "--untracked-files=no", ".") else head


def machine(device: torch.device) -> str:
    """Return the kind of processor that generates the images."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def as_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return canonical JSON (sorted keys, no spaces), the form in which experiments are hashed."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
