"""Salts of the log's commitments to rows that can be erased; the case of an attention check."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    for table in ("screens", "replies"):
        op.add_column(table, sa.Column("salt", sa.Text(), nullable=True))
    with op.batch_alter_table("checks") as checks:
        checks.add_column(sa.Column("case_id", ID, nullable=True))
        checks.create_foreign_key(op.f("fk_checks_case_id_cases"), "cases", ["case_id"], ["id"], ondelete="RESTRICT")
