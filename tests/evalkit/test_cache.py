"""The feature cache: whole or made anew, whoever wrote it and however many do at once."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from evalkit.errors import UserError
from evalkit.run.feature_cache import FeatureCache, MemoryFeatureStore


@pytest.fixture
def path(tmp_path):
    """Return where the cache file should be."""
    return tmp_path / "deep/features.sqlite"


def vector(seed: int) -> np.ndarray:
    """Return random features."""
    return np.random.default_rng(seed).normal(size=512).astype(np.float32)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_put_is_got_by_recipe_and_key(kind, path):
    store = MemoryFeatureStore() if kind == "memory" else FeatureCache(path)
    many = {f"{number:064x}": vector(number) for number in range(1200)}
    store.put("recipe", many)
    found = store.get("recipe", list(many))
    assert found.keys() == many.keys()
    assert all(np.array_equal(found[key], many[key]) for key in many)
    assert store.get("another", list(many)) == {}
    assert store.get("recipe", ["0" * 63 + "z"]) == {}
    if isinstance(store, FeatureCache):
        store.close()


def test_it_is_there_after_closing(path):
    with FeatureCache(path) as cache:
        cache.put("r", {"a": vector(1)})
    with FeatureCache(path) as cache:
        assert np.array_equal(cache.get("r", ["a"])["a"], vector(1))
        assert cache.notes == []


def filled(path):
    """Make a cache file of some pages and return its bytes."""
    with FeatureCache(path) as cache:
        cache.put("r", {str(number): vector(number) for number in range(300)})
    return path.read_bytes()


@pytest.mark.parametrize("spoil", ["cut", "text", "foreign", "newer"])
def test_a_file_that_is_not_ours_or_cut_off_is_made_anew_and_said(path, spoil):
    data = filled(path)
    if spoil == "cut":
        path.write_bytes(data[: len(data) // 3])
    elif spoil == "text":
        path.write_bytes(b"no database at all, but long enough to be one" * 100)
    elif spoil == "newer":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE customers (name TEXT)")
        connection.close()
    with FeatureCache(path) as cache:
        assert cache.get("r", ["299", "0"]) == {}
        cache.put("r", {"0": vector(0)})
        assert np.array_equal(cache.get("r", ["0"])["0"], vector(0))
        assert "rebuilt" in cache.notes[0]


def test_a_vector_whose_bits_flipped_counts_as_absent(path):
    with FeatureCache(path) as cache:
        cache.put("r", {"a": vector(1), "b": vector(2)})
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE features SET vector = zeroblob(2048) WHERE key = 'a'")
    connection.close()
    with FeatureCache(path) as cache:
        assert cache.get("r", ["a", "b"]).keys() == {"b"}
        cache.put("r", {"a": vector(1)})
        assert cache.get("r", ["a"]).keys() == {"a"}


WRITER = """
import sys
from pathlib import Path
import numpy as np
from evalkit.run.feature_cache import FeatureCache
with FeatureCache(Path(sys.argv[1])) as cache:
    for number in range(150):
        cache.put("r", {f"{sys.argv[2]}-{number}": np.full(64, number, dtype=np.float32), f"both-{number}": np.ones(4)})
    print(len(cache.notes))
"""


def test_two_processes_write_at_once(path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    assert [writer.communicate(timeout=60)[0].strip() for writer in writers] == ["0", "0"]
    with FeatureCache(path) as cache:
        for name in ("a", "b", "both"):
            assert len(cache.get("r", [f"{name}-{number}" for number in range(150)])) == 150


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the cache can't be opened"):
        FeatureCache(tmp_path / "file" / "features.sqlite")
