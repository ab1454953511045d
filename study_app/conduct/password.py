"""Admin password: argon2id hash on disk, exponential back-off after failures."""

import hashlib
import hmac
import json
import secrets
import threading
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from evalkit.errors import UserError
from evalkit.io.atomic_files import write_atomic
from study_app.conduct.login_log import LoginLog
from study_app.plan.blinding import FOLDER

SHORTEST = 12
LONGEST = 1024
# argon2-cffi's defaults follow RFC 9106's low-memory profile
_HASHER = PasswordHasher()
# of password files written before argon2 (OWASP's scrypt profile needs 64 MiB)
_SCRYPT_MEMORY = 256 * 2**20


def password_file(run: Path) -> Path:
    """Return the path of the password hash of a run's study."""
    return run / FOLDER / "password"


def set_password(run: Path, password: str | None = None) -> str:
    """Store the hash of a password, by default of a new random one, and return the password.

    Raises:
        UserError: the password is shorter than 12 characters or longer than 1,024.
    """
    chosen = secrets.token_urlsafe(18) if password is None else password
    if not SHORTEST <= len(chosen) <= LONGEST:
        raise UserError(
            f"the password: has {len(chosen)} characters; give {SHORTEST} to {LONGEST}, or omit --own for a random password"
        )
    file = password_file(run)
    write_atomic(file, json.dumps({"argon2": _HASHER.hash(chosen)}).encode(), mode=0o600)
    return chosen


class AdminPassword:
    """Checks the admin password, with exponential back-off after failures of the same visitor."""

    def __init__(self, run: Path) -> None:
        self._file = password_file(run)
        # one hash at a time: each takes 64 MiB
        self._checking = threading.Lock()
        self.log = LoginLog(self._file.with_name("logins"))

    @property
    def exists(self) -> bool:
        """Return whether a password was set; there is no dashboard without one."""
        return self._file.exists()

    def fingerprint(self) -> str:
        """Return a digest of the password file; a new password changes it, which ends all sessions."""
        return hashlib.sha256(self._file.read_bytes()).hexdigest()

    def opens(self, password: str, visitor: str = "") -> bool | None:
        """Return whether the password is right; None if the guess came too soon after this visitor's wrong one.

        `visitor` names who guesses: a browser that logged in before, or an address. Failures of others do not matter.
        """
        with self._checking:
            if not self.log.may_try(visitor):
                return None
            right = is_right(json.loads(self._file.read_bytes()), password[:LONGEST])
            self.log.record(visitor, right)
            return right


def is_right(stored: dict[str, object], password: str) -> bool:
    """Return whether a password matches the content of a password file, of argon2 or of the scrypt files made before."""
    if "argon2" in stored:
        try:
            return _HASHER.verify(str(stored["argon2"]), password)
        except VerificationError:
            return False
    n, r, p = (int(str(stored[name])) for name in ("n", "r", "p"))
    salt = bytes.fromhex(str(stored["salt"]))
    digest = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MEMORY, dklen=32)
    return hmac.compare_digest(digest, bytes.fromhex(str(stored["scrypt"])))
