"""Answers to further questions about checks."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CHOICE = "choice IN ('left', 'right', 'cannot_tell') OR substr(choice, 1, 1) IN ('1', '2', '3', '4', '5', '6', '7', '8')"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "check_answers",
        sa.Column("id", ID, nullable=False),
        sa.Column("check_id", ID, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in ("reaction_ms", "loaded_ms", "hidden_ms", "focus_losses")),
        sa.CheckConstraint(CHOICE, name=op.f("ck_check_answers_choice")),
        sa.CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name=op.f("ck_check_answers_reaction_ms")),
        sa.ForeignKeyConstraint(
            ["check_id"], ["checks.id"], name=op.f("fk_check_answers_check_id_checks"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_answers")),
        sa.UniqueConstraint("check_id", "question", name=op.f("uq_check_answers_check_id_question")),
    )
