"""A restart reads no image that is known, and a shard reads none of another's; schedulers number shards."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import UserError
from evalkit.io.atomic_files import sha256_bytes
from evalkit.run.image_records import ImageRecord, image_path
from evalkit.run.shard import Shard
from generation import journal as journal_module
from generation.journal import Journal

CASES = [f"case{number}" for number in range(6)]


def record(case: str, seed: int) -> tuple[ImageRecord, bytes]:
    data = f"{case} {seed}".encode()
    path = image_path(case, "direct", seed)
    return ImageRecord(path=path, sha256=sha256_bytes(data), width=1, height=1, case=case, arm="direct", seed=seed), data


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files whose bytes are read, as they are read."""
    files: list[Path] = []
    sha256_file = journal_module.sha256_file
    monkeypatch.setattr(journal_module, "sha256_file", lambda path: (files.append(path), sha256_file(path))[1])
    return files


def write(run: Path, count: int) -> None:
    """Write a run of `count` shards."""
    for number in range(1, count + 1):
        shard = Shard(number, count)
        journal = Journal(run, str(shard))
        for case in shard.of(CASES):
            for seed in range(3):
                journal.add(*record(case, seed))


def test_a_restart_reads_no_image_that_is_known(tmp_path: Path, reads: list[Path]):
    write(tmp_path, 3)
    assert len(Journal(tmp_path).images) == 18
    assert reads == []
    # the states are gone, as in a copied run: all are read once, and then known
    for file in tmp_path.glob("verified*"):
        file.unlink()
    assert len(Journal(tmp_path).images) == 18
    assert len(reads) == 18
    assert len(Journal(tmp_path).images) == 18
    assert len(reads) == 18


def test_a_changed_file_is_read_and_made_again(tmp_path: Path, reads: list[Path]):
    write(tmp_path, 1)
    image, data = record("case1", 1)
    (tmp_path / image.path).write_bytes(data[::-1])
    other, _ = record("case2", 1)
    (tmp_path / other.path).unlink()
    images = Journal(tmp_path).images
    assert len(images) == 16
    assert image.cell not in images
    assert reads == [tmp_path / image.path]


def test_a_shard_reads_its_own_images_alone(tmp_path: Path, reads: list[Path]):
    write(tmp_path, 3)
    for file in tmp_path.glob("verified*"):
        file.unlink()
    own = set(Shard(2, 3).of(CASES))
    assert len(Journal(tmp_path, "2-of-3", lambda cell: cell[0] in own).images) == 18
    assert {file.parent.parent.name for file in reads} == own
    assert len(reads) == 6


def test_a_state_that_was_cut_off_is_not_believed(tmp_path: Path, reads: list[Path]):
    write(tmp_path, 1)
    states = tmp_path / "verified.1-of-1.tsv"
    states.write_text(states.read_text()[:-3])
    assert len(Journal(tmp_path).images) == 18
    assert len(reads) == 1


def test_a_run_whose_states_cannot_be_written_is_read_again(tmp_path: Path, reads: list[Path]):
    journal = Journal(tmp_path, "1-of-1")
    (tmp_path / "verified.1-of-1.tsv").mkdir()
    journal.add(*record("case1", 0))
    (tmp_path / "verified.1-of-1.tsv").rmdir()
    assert len(Journal(tmp_path, "1-of-1").images) == 1
    assert len(reads) == 1


@given(
    st.integers(1, 40).flatmap(lambda count: st.tuples(st.integers(0, count - 1), st.just(count))),
    st.integers(0, 3),
    st.integers(1, 4),
)
def test_schedulers_number_the_same_shards(place: tuple[int, int], first: int, step: int):
    index, count = place
    slurm = {
        "SLURM_ARRAY_TASK_ID": first + index * step, "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_STEP": step,
        "SLURM_ARRAY_TASK_COUNT": count,
    }  # fmt: skip
    for text, variables in (
        ("auto", slurm),
        ("auto", {"RANK": index, "WORLD_SIZE": count}),
        (f"auto/{count}", {"JOB_COMPLETION_INDEX": index}),
    ):
        assert Shard.parse(text, {name: str(value) for name, value in variables.items()}) == Shard(index + 1, count)


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("auto", {}, r"no scheduler numbers this process .*; give --shard I/N"),
        ("auto", {"JOB_COMPLETION_INDEX": "3"}, r"give auto/N"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, r"\$SLURM_ARRAY_TASK_COUNT is '', not a whole number"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "2"}, r"\$RANK is 'x', not a whole number"),
        ("auto", {"RANK": "2", "WORLD_SIZE": "2"}, r"index 2 is not below its count 2"),
        ("auto/", {"RANK": "0", "WORLD_SIZE": "2"}, r"is not a part; give I/N"),
        ("3/2", {}, r"is not a part; give I/N"),
    ],
)
def test_a_shard_that_nobody_numbers_is_refused(text: str, environment: dict[str, str], message: str):
    with pytest.raises(UserError, match=message):
        Shard.parse(text, environment)
