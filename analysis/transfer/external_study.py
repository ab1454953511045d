"""Votes from elsewhere, stored in the database as the judgments of an external study."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import select

from analysis.transfer.tidy import EXTERNAL
from analysis.transfer.vote_file import ExternalVote
from db import models
from db.session import Database, write
from db.utc import utc_now
from evalkit.errors import UserError


def store_votes(database: Database, run_id: int, votes: Sequence[ExternalVote], file_name: str, sha256: str) -> bool:
    """Store the votes in one transaction; return whether they are new. The same file again changes nothing.

    Participants' names are stored as hashes only. The study's design has `source = "external"` and names the file.

    Raises:
        UserError: the database already has a study of this run.
    """
    design = {"source": EXTERNAL, "file": file_name, "file_sha256": sha256}
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
        images = {
            (case, arm, seed): (image, case_id, position)
            for case, arm, seed, image, case_id, position in session.execute(
                select(
                    models.StoredCase.key, models.StoredArm.label, models.StoredImage.seed, models.StoredImage.id,
                    models.StoredImage.case_id, models.StoredArm.position,
                )
                .join(models.StoredImage.case)
                .join(models.StoredImage.arm)
                .where(models.StoredCase.run_id == run_id)
            )
        }  # fmt: skip
        people: dict[str, models.Participant] = {}
        comparisons: dict[tuple[int, int], models.Comparison] = {}
        pairs = []
        for vote in votes:
            sides = [images[vote.case, arm, vote.seed] for arm in (vote.left, vote.right)]
            (image_a, case_id, _), (image_b, _, _) = sorted(sides, key=lambda image: image[2])
            if (image_a, image_b) not in comparisons:
                comparisons[image_a, image_b] = models.Comparison(
                    study_id=study.id, case_id=case_id, seed=vote.seed, image_a_id=image_a, image_b_id=image_b,
                    priority=len(comparisons), target=1, filled=0, first_left=0,
                )  # fmt: skip
            comparison = comparisons[image_a, image_b]
            comparison.filled += 1
            comparison.target = comparison.filled
            if vote.participant not in people:
                token = hashlib.sha256(f"{sha256} {vote.participant}".encode()).hexdigest()
                people[vote.participant] = models.Participant(
                    study_id=study.id, token_sha256=token, seed=len(people), simulated=vote.simulated,
                    completion_code=f"X{token[:15]}", arrived_at=now, consented_at=now,
                )  # fmt: skip
            pairs.append((vote, comparison, people[vote.participant], int(sides[0][0] != image_a)))
        session.add_all([*comparisons.values(), *people.values()])
        session.flush()
        positions = dict.fromkeys(people, 0)
        assignments = []
        for vote, comparison, person, left in pairs:
            assignments.append(
                models.Assignment(
                    comparison_id=comparison.id, participant_id=person.id, position=positions[vote.participant], left=left,
                    state="done", assigned_at=now, expires_at=now,
                )
            )  # fmt: skip
            positions[vote.participant] += 1
        session.add_all(assignments)
        session.flush()
        session.add_all(
            models.Judgment(
                assignment_id=assignment.id, choice=_choice(vote), surplus=False, reaction_ms=vote.response_ms, judged_at=now
            )
            for assignment, vote in zip(assignments, votes, strict=True)
        )
    return True


def _choice(vote: ExternalVote) -> str:
    if vote.chosen is None:
        return "cannot_tell"
    return "left" if vote.chosen == vote.left else "right"
