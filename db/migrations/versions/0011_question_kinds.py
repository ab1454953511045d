"""Answers of further kinds of questions: ratings, graded preferences, yes or no, comments."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ANSWER = "length(choice) BETWEEN 1 AND 200"


def upgrade() -> None:
    """Go forward."""
    for name in ("answers", "check_answers", "withdrawals"):
        with op.batch_alter_table(name) as table:
            table.drop_constraint(op.f(f"ck_{name}_choice"), type_="check")
            table.create_check_constraint(op.f(f"ck_{name}_choice"), ANSWER)
