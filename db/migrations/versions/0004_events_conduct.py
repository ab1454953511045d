"""A log of all that happens, chained by hashes; exclusions, pauses and the lock of a study."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.add_column("studies", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("studies", sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("participants", sa.Column("excluded_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("participants", sa.Column("excluded_because", sa.Text(), nullable=True))
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_events_study_id_studies"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("study_id", "number", name=op.f("uq_events_study_id_number")),
    )
