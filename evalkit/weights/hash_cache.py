"""Hashes of large files that were taken once: by path, size, times and inode, so that a start rereads no gigabyte."""

import json
import os
import re
import time
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_file, write_atomic
from evalkit.run.feature_cache import own_folder

FILE_NAME = "digests.json"
# Hashing less takes no longer than looking it up.
SMALLEST = 4 * 1024 * 1024
# The coarsest clock of a file system (FAT): what changed within this time may change again under the same times.
TICK_SECONDS = 2.0
DIGEST = re.compile(r"[0-9a-f]{64}")


def known_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits; an unchanged large file is not read again.

    A write changes the size, the time of change or that of its entry (ctime), which no program can set; another file under the
    same name has another inode. `evalkit weights verify` reads every byte always.
    """
    path = path.resolve()
    before = path.stat()
    if before.st_size < SMALLEST:
        return sha256_file(path)
    cache = own_folder() / FILE_NAME
    known = _read(cache)
    name = _name(path, before)
    if name in known:
        return known[name]
    digest = sha256_file(path)
    settled = time.time() - max(before.st_mtime, before.st_ctime) > TICK_SECONDS
    if settled and _name(path, path.stat()) == name:
        others = {key: value for key, value in _read(cache).items() if key.rpartition("|")[0] != str(path)}
        try:
            write_atomic(cache, json.dumps({**others, name: digest}, indent=1) + "\n")
        except UserError:
            # a folder that can't be written costs the time to hash again, and no score
            return digest
    return digest


def _name(path: Path, state: os.stat_result) -> str:
    """Return what names a file in its present state."""
    return f"{path}|{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"


def _read(cache: Path) -> dict[str, str]:
    """Return what is known; nothing if the file is absent or damaged."""
    try:
        entries = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key: value for key, value in entries.items() if isinstance(value, str) and DIGEST.fullmatch(value)}
