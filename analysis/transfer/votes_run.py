"""A run made from votes alone: cases, arms and seeds without images."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from analysis.transfer.source_rows import SourceRow
from analysis.transfer.vote_rows import ReadVotes
from evalkit.errors import UserError
from evalkit.run.file_record import NAME_PATTERN
from evalkit.run.manifest import Arm, Case, Concept, Manifest


def votes_run(read: ReadVotes, name: str, sha256: str) -> tuple[Manifest, ReadVotes]:
    """Return the manifest of a run that consists of votes only, and the votes in its names.

    Names that cannot be ids become ids of letters, digits, `.`, `_` and `-`; the name stays as the arm's method and the
    case's prompt.
    """
    votes = (*read.votes, *read.further)
    arms = _ids(arm for vote in votes for arm in vote.shown)
    cases = _ids(vote.case for vote in votes)
    concepts = _ids(concept for named in read.concepts.values() for concept in named)
    seeds: dict[str, set[int]] = {}
    for vote in votes:
        seeds.setdefault(vote.case, set()).add(vote.seed)
    manifest = Manifest(
        name=name,
        experiment_sha256=sha256,
        source="votes",
        concepts=tuple(Concept(name=key, words=concept, class_word=concept) for concept, key in concepts.items()),
        arms=tuple(Arm(label=key, method=arm) for arm, key in arms.items()),
        cases=tuple(
            Case(
                id=key, concepts=tuple(concepts[concept] for concept in read.concepts.get(case, ())), prompt=case,
                plain_prompt=case, seeds=tuple(sorted(seeds[case])),
            )
            for case, key in cases.items()
        ),
    )  # fmt: skip
    renamed = [
        tuple(
            replace(vote, case=cases[vote.case], shown=tuple(arms[arm] for arm in vote.shown),
                    best=tuple(arms[arm] for arm in vote.best))
            for vote in some
        )
        for some in (read.votes, read.further)
    ]  # fmt: skip
    return manifest, replace(read, votes=renamed[0], further=renamed[1])


def with_seeds(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """Return rows with seed 0 where there is no seed column at all, as in studies with one image per case and arm."""
    if any(row.text("seed") for row in rows):
        return list(rows)
    return [row.with_cells({**row.cells, "seed": "0"}) for row in rows]


def _ids(names: Iterable[str]) -> dict[str, str]:
    """Return an id for each name in the order in which they first occur; no two ids are equal but for their case."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in ids:
            continue
        stem = name if re.match(NAME_PATTERN, name) else re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:90] or "x"
        key, number = stem, 2
        while key.lower() in taken:
            key, number = f"{stem}-{number}", number + 1
        if not re.match(NAME_PATTERN, key):
            raise UserError(f"name {name!r}: cannot become an id; use letters, digits, '.', '_' and '-'")
        ids[name] = key
        taken.add(key.lower())
    return ids
