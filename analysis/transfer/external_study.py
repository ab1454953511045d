"""Votes from elsewhere, stored in the database as the judgments of an external study."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from analysis.database_rows import EXTERNAL
from analysis.transfer.tidy_vote import TidyVote
from analysis.transfer.vote_rows import ReadVotes
from db import models
from db.session import Database, write
from db.utc import utc_now
from evalkit.errors import UserError

Images = Mapping[tuple[str, str, int], tuple[int, int, int]]
"""Image id, case id and position of the arm by case, arm and seed."""


def store_votes(database: Database, run_id: int, read: ReadVotes, file_name: str, sha256: str, layout: str = "tidy") -> bool:
    """Store the votes in one transaction; return whether they are new. The same files again change nothing.

    Participants' names are stored as hashes only. The study's design has `source = "external"`, names the file and its
    layout, and states whether sides are known and how ratings became votes.

    Raises:
        UserError: the database already has a study of this run.
    """
    sided = all(vote.sides_known for vote in read.votes)
    design = {"source": EXTERNAL, "file": file_name, "file_sha256": sha256, "layout": layout}
    design |= {} if sided else {"sides": "unknown"}
    design |= {"ratings": read.rule} if read.rule else {}
    with write(database) as session:
        study = session.scalar(select(models.Study).where(models.Study.run_id == run_id))
        if study is not None:
            if study.design.get("file_sha256") == sha256:
                return False
            raise UserError(
                f"{database.name}: already has a study of this run, and its judgments are never replaced; "
                "give another database by --db sqlite:///FILE"
            )
        now = utc_now()
        study = models.Study(run_id=run_id, design=design, design_sha256=sha256, seed=0, created_at=now)
        session.add(study)
        session.flush()
        _store(session, study.id, _images(session, run_id), read, sha256, now)
    return True


def _images(session: Session, run_id: int) -> Images:
    rows = session.execute(
        select(
            models.StoredCase.key, models.StoredArm.label, models.StoredImage.seed, models.StoredImage.id,
            models.StoredImage.case_id, models.StoredArm.position,
        )
        .join(models.StoredImage.case)
        .join(models.StoredImage.arm)
        .where(models.StoredCase.run_id == run_id)
    )  # fmt: skip
    return {(case, arm, seed): (image, case_id, position) for case, arm, seed, image, case_id, position in rows}


def _store(session: Session, study_id: int, images: Images, read: ReadVotes, sha256: str, now: datetime) -> None:
    people: dict[str, models.Participant] = {}
    comparisons: dict[tuple[int, ...], models.Comparison] = {}
    rows: list[tuple[TidyVote, models.Comparison, models.Participant, tuple[str, ...]]] = []
    for vote in read.votes:
        arms = tuple(sorted(vote.shown, key=lambda arm: images[vote.case, arm, vote.seed][2]))
        ids = tuple(images[vote.case, arm, vote.seed][0] for arm in arms)
        if ids not in comparisons:
            comparisons[ids] = models.Comparison(
                study_id=study_id, case_id=images[vote.case, arms[0], vote.seed][1], seed=vote.seed, image_a_id=ids[0],
                image_b_id=ids[1], priority=len(comparisons), target=1, filled=0, first_left=0,
            )  # fmt: skip
        comparison = comparisons[ids]
        if not vote.flags & {"excluded", "surplus"}:
            comparison.filled += 1
            comparison.target = max(comparison.filled, 1)
        if vote.participant not in people:
            people[vote.participant] = _participant(study_id, vote, sha256, len(people), now)
        rows.append((vote, comparison, people[vote.participant], arms))
    session.add_all([*comparisons.values(), *people.values()])
    session.flush()
    session.add_all(
        models.FurtherImage(
            comparison_id=comparison.id,
            place=position,
            image_id=ids[position],
            case_id=comparison.case_id,
            seed=comparison.seed,
        )
        for ids, comparison in comparisons.items()
        for position in range(2, len(ids))
    )
    positions = dict.fromkeys(people, 0)
    assignments: list[models.Assignment] = []
    for vote, comparison, person, arms in rows:
        pair = len(arms) == 2
        assignments.append(
            models.Assignment(
                comparison_id=comparison.id, participant_id=person.id, position=positions[vote.participant],
                left=int(vote.shown[0] != arms[0]) if pair else 0,
                arrangement=None if pair else " ".join(str(arms.index(arm)) for arm in vote.shown),
                state="expired" if vote.flags & {"excluded", "surplus"} else "done", assigned_at=now, expires_at=now,
            )
        )  # fmt: skip
        positions[vote.participant] += 1
    session.add_all(assignments)
    session.flush()
    session.add_all(
        models.Judgment(
            assignment_id=assignment.id, choice=_choice(vote), surplus="surplus" in vote.flags, reaction_ms=vote.response_ms,
            judged_at=now,
        )
        for assignment, vote in zip(assignments, read.votes, strict=True)
    )  # fmt: skip
    _store_answers(session, read, assignments, now)


def _store_answers(session: Session, read: ReadVotes, assignments: Sequence[models.Assignment], now: datetime) -> None:
    """Store the answers to further questions; sides are those of the vote on the same images."""
    by_vote = {
        (vote.participant, vote.case, vote.seed, frozenset(vote.shown)): (vote, assignment)
        for vote, assignment in zip(read.votes, assignments, strict=True)
    }
    for answer in read.further:
        vote, assignment = by_vote[answer.participant, answer.case, answer.seed, frozenset(answer.shown)]
        choice = _choice(TidyVote(vote.participant, vote.case, vote.seed, vote.shown, answer.best))
        session.add(
            models.Answer(
                assignment_id=assignment.id, question=answer.question, choice=choice, reaction_ms=answer.response_ms,
                answered_at=now,
            )
        )  # fmt: skip


def _participant(study_id: int, vote: TidyVote, sha256: str, number: int, now: datetime) -> models.Participant:
    token = hashlib.sha256(f"{sha256} {vote.participant}".encode()).hexdigest()
    is_excluded = "excluded" in vote.flags
    return models.Participant(
        study_id=study_id, token_sha256=token, seed=number, simulated="simulated" in vote.flags,
        completion_code=f"X{token[:15]}", arrived_at=now, consented_at=now, excluded_at=now if is_excluded else None,
        excluded_because="excluded in the imported file" if is_excluded else None,
    )  # fmt: skip


def _choice(vote: TidyVote) -> str:
    """Return the code of an answer: a side of a pair, or places on the page of more than two images."""
    if not vote.best:
        return "cannot_tell"
    if len(vote.shown) == 2:
        return "left" if vote.best[0] == vote.shown[0] else "right"
    return " ".join(str(vote.shown.index(arm) + 1) for arm in vote.best)
