"""Further questions per comparison, checks of participants, and what browsers measure."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CHOICES = "('left', 'right', 'cannot_tell')"


def measured() -> list[sa.Column[int]]:
    """Return the columns of what a browser measured."""
    return [sa.Column(name, sa.Integer(), nullable=True) for name in ("reaction_ms", "loaded_ms", "hidden_ms", "focus_losses")]


def upgrade() -> None:
    """Go forward."""
    for column in measured()[1:]:
        op.add_column("judgments", column)
    op.create_table(
        "answers",
        sa.Column("id", ID, nullable=False),
        sa.Column("assignment_id", ID, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        *measured(),
        sa.CheckConstraint(f"choice IN {CHOICES}", name=op.f("ck_answers_choice")),
        sa.CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name=op.f("ck_answers_reaction_ms")),
        sa.ForeignKeyConstraint(
            ["assignment_id"], ["assignments.id"], name=op.f("fk_answers_assignment_id_assignments"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answers")),
        sa.UniqueConstraint("assignment_id", "question", name=op.f("uq_answers_assignment_id_question")),
    )
    refers = [
        ("participant_id", "participants"), ("left_image_id", "images"), ("right_image_id", "images"),
        ("left_reference_id", "concept_references"), ("right_reference_id", "concept_references"), ("concept_id", "concepts"),
        ("assignment_id", "assignments"),
    ]  # fmt: skip
    op.create_table(
        "checks",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("after", sa.Integer(), nullable=False),
        *(sa.Column(column, ID, nullable=column != "participant_id") for column, _ in refers),
        sa.Column("expected", sa.Text(), nullable=True),
        sa.Column("choice", sa.Text(), nullable=True),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        *measured(),
        sa.CheckConstraint("kind IN ('null_pair', 'repeat', 'gold', 'attention')", name=op.f("ck_checks_kind")),
        sa.CheckConstraint(f"expected IN {CHOICES}", name=op.f("ck_checks_expected")),
        sa.CheckConstraint(f"choice IN {CHOICES}", name=op.f("ck_checks_choice")),
        sa.CheckConstraint("(choice IS NULL) = (answered_at IS NULL)", name=op.f("ck_checks_answered")),
        sa.CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name=op.f("ck_checks_reaction_ms")),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=op.f(f"fk_checks_{column}_{table}"), ondelete="RESTRICT")
            for column, table in refers
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checks")),
        sa.UniqueConstraint("assignment_id", name=op.f("uq_checks_assignment_id")),
    )
    op.create_index(
        "uq_checks_one_open",
        "checks",
        ["participant_id"],
        unique=True,
        sqlite_where=sa.text("choice IS NULL"),
        postgresql_where=sa.text("choice IS NULL"),
    )
