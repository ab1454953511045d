"""Hashes that are remembered: a file is read once, and any change to it is noticed."""

import os

import pytest

from evalkit.io.atomic_files import sha256_bytes, sha256_file
from evalkit.weights import hash_cache as digests
from evalkit.weights.hash_cache import FILE_NAME, SMALLEST, known_sha256

LARGE = bytes(SMALLEST)


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """Return a list that grows by each file that is read; the memory is empty, and files count as settled at once."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "TICK_SECONDS", -1.0)
    seen = []
    monkeypatch.setattr(digests, "sha256_file", lambda path: (seen.append(path), sha256_file(path))[1])
    return seen


def test_a_large_file_is_read_once_and_a_small_one_always(tmp_path, reads):
    for size, count in ((SMALLEST, 1), (SMALLEST - 1, 2)):
        file = tmp_path / f"{size}"
        file.write_bytes(bytes(size))
        reads.clear()
        assert {known_sha256(file) for _ in range(2)} == {sha256_bytes(bytes(size))}
        assert len(reads) == count


def change_in_place(file):
    """Change one byte, and set size and time of change to what they were, as `touch --reference` does."""
    state = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"x")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def put_another_in_its_place(file):
    """Move another file of the same size and time of change over it, as `mv` and `cp --preserve` do."""
    other = file.with_name("other")
    other.write_bytes(b"y" + LARGE[1:])
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [change_in_place, put_another_in_its_place])
def test_a_changed_file_is_noticed_though_its_size_and_time_are_the_same(tmp_path, reads, change):
    file = tmp_path / "weights.pt"
    file.write_bytes(LARGE)
    before = known_sha256(file)
    state = file.stat()
    change(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert known_sha256(file) == sha256_file(file) != before
    assert len(reads) == 2


def test_a_link_that_points_elsewhere_is_noticed(tmp_path, reads):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() + LARGE)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    before = known_sha256(link)
    link.unlink()
    link.symlink_to(tmp_path / "b")
    assert known_sha256(link) == sha256_file(tmp_path / "b") != before


def test_a_file_that_was_just_written_is_not_remembered_yet(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(digests, "TICK_SECONDS", 60.0)
    file = tmp_path / "weights.pt"
    file.write_bytes(LARGE)
    known_sha256(file)
    known_sha256(file)
    assert len(reads) == 2


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"a": 1}', '{"a": "0"}'])
def test_a_damaged_memory_is_none(tmp_path, reads, text):
    file = tmp_path / "weights.pt"
    file.write_bytes(LARGE)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE_NAME).write_text(text)
    assert known_sha256(file) == known_sha256(file) == sha256_bytes(LARGE)
    assert len(reads) == 1


def test_where_nothing_can_be_written_it_is_hashed_each_time(tmp_path, reads, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "file"))
    file = tmp_path / "weights.pt"
    file.write_bytes(LARGE)
    assert known_sha256(file) == known_sha256(file) == sha256_bytes(LARGE)
    assert len(reads) == 2
