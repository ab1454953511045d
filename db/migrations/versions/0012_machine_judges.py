"""Machine judges and their calls."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
CHECKS = {
    "swapped": "swapped IN (0, 1)",
    "repetition": "repetition >= 0",
    "requests": "requests >= 0",
    "state": "state IN ('open', 'answered', 'refused', 'unreadable', 'failed')",
    "choice": "choice IS NULL OR choice IN ('first', 'second', 'cannot_tell')",
    "answered": "(state = 'answered') = (choice IS NOT NULL OR score IS NOT NULL)",
    "numbered": "(state = 'open') = (number IS NULL)",
}


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "machine_judges",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("name", "kind", "endpoint", "model")),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("template_sha256", "wording_sha256")),
        sa.Column("people_events", sa.Integer(), nullable=False),
        sa.Column("people_sha256", sa.String(64), nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_machine_judges_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_machine_judges")),
        sa.UniqueConstraint("study_id", "name", name=op.f("uq_machine_judges_study_id_name")),
    )
    op.create_table(
        "judge_calls",
        sa.Column("id", ID, nullable=False),
        sa.Column("judge_id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("swapped", sa.Integer(), nullable=False),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=True),
        sa.Column("score", sa.Float(53), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("response", sa.JSON(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in ("prompt_tokens", "completion_tokens", "latency_ms")),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("answered_at", TIME, nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=True),
        *(sa.CheckConstraint(text, name=op.f(f"ck_judge_calls_{name}")) for name, text in CHECKS.items()),
        sa.ForeignKeyConstraint(
            ["judge_id"], ["machine_judges.id"], name=op.f("fk_judge_calls_judge_id_machine_judges"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.id"], name=op.f("fk_judge_calls_comparison_id_comparisons"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge_calls")),
        sa.UniqueConstraint("judge_id", "comparison_id", "question", "swapped", "repetition", name=op.f("uq_judge_calls_once")),
        sa.UniqueConstraint("judge_id", "number", name=op.f("uq_judge_calls_judge_id_number")),
    )
