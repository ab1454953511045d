"""The dashboard's password: made at random or given, kept as a hash alone, and slow to guess."""

import hashlib
import hmac
import json
import secrets
import threading
import time
from pathlib import Path

from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from study_app.plan.blinding import FOLDER

SHORTEST = 12
LONGEST = 1024
# OWASP Password Storage Cheat Sheet, "scrypt": 2^16, 8, 2 costs 64 MB and some tenths of a second
_COST = {"n": 2**16, "r": 8, "p": 2}
_MEMORY = 256 * 2**20
# after the first wrong guess the next one waits a second, then twice as long each time
_LONGEST_PAUSE = 60.0


def password_file(run: Path) -> Path:
    """Return the path of a study's password hash."""
    return run / FOLDER / "password"


def set_password(run: Path, password: str | None = None) -> str:
    """Keep the hash of a password, of a new random one if none is given, and return the password.

    Raises:
        UserError: the password is shorter than 12 characters or longer than 1,024.
    """
    chosen = secrets.token_urlsafe(18) if password is None else password
    if not SHORTEST <= len(chosen) <= LONGEST:
        raise UserError(f"the password: has {len(chosen)} characters; give {SHORTEST} to {LONGEST}, or let one be made")
    salt = secrets.token_bytes(16)
    kept = {"salt": salt.hex(), "scrypt": _hash(chosen, salt).hex(), **_COST}
    file = password_file(run)
    write_atomic(file, json.dumps(kept).encode())
    file.chmod(0o600)
    return chosen


class AdminPassword:
    """Checks the admin password, with exponential back-off after failures."""

    def __init__(self, run: Path) -> None:
        self._file = password_file(run)
        self._turn = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0

    @property
    def exists(self) -> bool:
        """Return whether a password is set; without one the dashboard is off."""
        return self._file.exists()

    def fingerprint(self) -> str:
        """Return what changes with the password, so that a new one ends every visit."""
        return hashlib.sha256(self._file.read_bytes()).hexdigest()

    def opens(self, password: str) -> bool | None:
        """Return whether the password is right; None if it came too soon after a wrong one and was not checked."""
        with self._turn:
            if time.monotonic() < self._closed_until:
                return None
            kept = json.loads(self._file.read_bytes())
            right = hmac.compare_digest(_hash(password[:LONGEST], bytes.fromhex(kept["salt"])), bytes.fromhex(kept["scrypt"]))
            self._failures = 0 if right else self._failures + 1
            self._closed_until = 0.0 if right else time.monotonic() + min(_LONGEST_PAUSE, 2.0 ** (self._failures - 1))
            return right


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_COST["n"], r=_COST["r"], p=_COST["p"], maxmem=_MEMORY, dklen=32)
