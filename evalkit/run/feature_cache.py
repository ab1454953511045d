"""Features that were computed once: by the image's bytes, the weights' bytes and the recipe."""

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import UserError

Features = NDArray[np.float32]

FILE_NAME = ".cache/features.sqlite"
VARIABLE = "EVALKIT_CACHE"
# "evkf" as a number: distinguishes our file from other SQLite databases.
APPLICATION = 0x65766B66
VERSION = 1
# SQLite's own limit on the parameters of a statement is 32,766; small enough to keep memory flat.
CHUNK = 500
# How long another process that writes is waited for.
PATIENCE_SECONDS = 30.0
# SQLite's extended codes hold the primary one in their last byte.
PRIMARY = 0xFF
HINDRANCES = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
    }
)  # fmt: skip


def own_folder() -> Path:
    """Return where features of images that belong to no run are kept: $EVALKIT_CACHE, else the user's cache folder."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalkit"


class FeatureStore(Protocol):
    """Where features are kept: recipe key and sha256 of the image (or text) to a float32 vector."""

    def get(self, recipe: str, keys: Sequence[str]) -> dict[str, Features]:
        """Return the features that are there."""

    def put(self, recipe: str, items: Mapping[str, Features]) -> None:
        """Keep features; what is there already stays."""


class MemoryFeatureStore:
    """Features kept for as long as the object lives."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[tuple[str, str], Features] = {}

    def get(self, recipe: str, keys: Sequence[str]) -> dict[str, Features]:
        """Return the features that are there."""
        return {key: self._kept[recipe, key] for key in keys if (recipe, key) in self._kept}

    def put(self, recipe: str, items: Mapping[str, Features]) -> None:
        """Keep features; what is there already stays."""
        for key, value in items.items():
            self._kept.setdefault((recipe, key), np.asarray(value, dtype=np.float32))

    def everything(self) -> dict[str, dict[str, Features]]:
        """Return all features by recipe and key."""
        features: dict[str, dict[str, Features]] = {}
        for (recipe, key), value in self._kept.items():
            features.setdefault(recipe, {})[key] = value
        return features


class FeatureCache:
    """Features kept in one SQLite file that several processes may read and write at once.

    A file that is cut off, of another program or of another version is deleted and rebuilt, with an entry in `notes`. Every
    vector carries a checksum: one that doesn't hold counts as absent.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; raise a UserError if the folder can't be written."""
        self.path = path
        self.notes: list[str] = []
        # how often the file was thrown away: features stored before are gone then
        self.renewals = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = _open(path)
            except sqlite3.DatabaseError as error:
                if _is_hindrance(error, path):
                    raise
                self._connection = self._renew(error)
        except (OSError, sqlite3.DatabaseError) as error:
            raise UserError(f"{path}: the cache can't be opened: {error}; delete the file: it is computed again") from error

    def __enter__(self) -> "FeatureCache":
        """Return the cache itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def get(self, recipe: str, keys: Sequence[str]) -> dict[str, Features]:
        """Return the features that are there and whole."""
        features: dict[str, Features] = {}
        try:
            for start in range(0, len(keys), CHUNK):
                part = keys[start : start + CHUNK]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(
                    f"SELECT key, vector, checksum FROM features WHERE recipe = ? AND key IN ({marks})", (recipe, *part)
                )
                for key, vector, checksum in rows:
                    if zlib.crc32(vector) == checksum:
                        features[key] = np.frombuffer(vector, dtype="<f4")
        except sqlite3.DatabaseError as error:
            if _is_hindrance(error, self.path):
                raise UserError(
                    f"{self.path}: the cache can't be read: {error}; delete the file: it is computed again"
                ) from error
            self._connection.close()
            self._connection = self._renew(error)
            return {}
        return features

    def put(self, recipe: str, items: Mapping[str, Features]) -> None:
        """Keep features in one transaction."""
        rows = list(_rows(recipe, items))
        try:
            self._write(rows)
        except sqlite3.DatabaseError as error:
            if _is_hindrance(error, self.path):
                raise UserError(f"{self.path}: the cache can't be written: {error}; free space, or remove it") from error
            self._connection.close()
            self._connection = self._renew(error)
            self._write(rows)

    def take_in(self, other: Path) -> None:
        """Keep the features of another cache file too; one that is being written to, or can't be read, gives none.

        A writer has a log next to the file, and the file alone is incomplete then. It is opened as immutable,
        without any lock, so it may be on a disk of another machine.
        """
        if other.with_name(f"{other.name}-wal").exists():
            return
        try:
            connection = sqlite3.connect(f"{other.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        except sqlite3.OperationalError:
            return
        try:
            if not _is_ours(connection):
                return
            cursor = connection.execute("SELECT recipe, key, vector, checksum FROM features")
            while rows := cursor.fetchmany(CHUNK):
                self._write([row for row in rows if zlib.crc32(row[2]) == row[3]], "DO NOTHING")
        except sqlite3.DatabaseError as error:
            self.notes.append(f"{other}: the cache could not be read to its end ({error})")
        finally:
            connection.close()

    def _write(
        self,
        rows: list[tuple[str, str, bytes, int]],
        known: str = "DO UPDATE SET vector = excluded.vector, checksum = excluded.checksum",
    ) -> None:
        with self._connection:
            self._connection.executemany(f"INSERT INTO features VALUES (?, ?, ?, ?) ON CONFLICT {known}", rows)

    def renew(self, reason: str) -> None:
        """Throw the file away and open a new one."""
        self._connection.close()
        self._connection = self._renew(sqlite3.DatabaseError(reason))

    def _renew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        self.renewals += 1
        self.notes.append(f"{self.path}: the cache could not be used and was rebuilt ({error})")
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return _open(self.path)


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection to the cache file, created if absent.

    Raises:
        sqlite3.DatabaseError: the file is damaged or not ours.
    """
    # features are put and read from the thread that scores; another may close
    connection = sqlite3.connect(path, timeout=PATIENCE_SECONDS, check_same_thread=False)
    try:
        with connection:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute(
                    "CREATE TABLE features (recipe TEXT, key TEXT, vector BLOB NOT NULL, checksum INTEGER NOT NULL, "
                    "PRIMARY KEY (recipe, key))"
                )
            if not _is_ours(connection):
                raise sqlite3.DatabaseError("it belongs to another program or version")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_hindrance(error: sqlite3.DatabaseError, path: Path) -> bool:
    """Tell whether an error is the disk's or another process's, and not damage to the file."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    if code & PRIMARY == sqlite3.SQLITE_READONLY:
        # a damaged header makes SQLite take a writable file for a read-only one
        return not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    return code & PRIMARY in HINDRANCES


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Return whether a file is a cache of this version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return (application, version) == (APPLICATION, VERSION)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; where another process does so at this moment, SQLite gives up at once, so try again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _rows(recipe: str, items: Mapping[str, Features]) -> Iterable[tuple[str, str, bytes, int]]:
    for key, value in items.items():
        vector = np.ascontiguousarray(value, dtype="<f4").tobytes()
        yield (recipe, key, vector, zlib.crc32(vector))
