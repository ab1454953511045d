"""What a participant's screen showed before they began, and what they answered to the questionnaire at the end."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.add_column("participants", sa.Column("screened_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("participants", sa.Column("questioned_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "screens",
        sa.Column("participant_id", ID, nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("pixel_ratio", sa.Float(53), nullable=True),
        sa.Column("plates", sa.Integer(), nullable=False),
        sa.Column("plates_read", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("plates_read BETWEEN 0 AND plates", name=op.f("ck_screens_plates_read")),
        sa.CheckConstraint("failure IN ('size', 'colour')", name=op.f("ck_screens_failure")),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participants.id"], name=op.f("fk_screens_participant_id_participants"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("participant_id", name=op.f("pk_screens")),
    )
    op.create_table(
        "replies",
        sa.Column("participant_id", ID, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("replied_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participants.id"], name=op.f("fk_replies_participant_id_participants"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("participant_id", "question", name=op.f("pk_replies")),
    )
