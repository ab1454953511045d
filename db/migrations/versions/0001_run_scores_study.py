"""The tables of a run, its scores and its study."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("experiment_sha256", sa.String(length=64), nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("scores_sha256", sa.String(length=64), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("source IN ('generated', 'imported')", name=op.f("ck_runs_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("experiment_sha256", name=op.f("uq_runs_experiment_sha256")),
    )
    op.create_table(
        "arms",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_arms_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arms")),
        sa.UniqueConstraint("run_id", "label", name=op.f("uq_arms_run_id_label")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_arms_run_id_position")),
    )
    op.create_table(
        "cases",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("plain_prompt", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_cases_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cases")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_cases_run_id_key")),
    )
    op.create_table(
        "concepts",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("class_word", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_concepts_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_concepts")),
        sa.UniqueConstraint("run_id", "name", name=op.f("uq_concepts_run_id_name")),
    )
    op.create_table(
        "metrics",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("direction IN ('higher', 'lower', 'none')", name=op.f("ck_metrics_direction")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_metrics_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metrics")),
        sa.UniqueConstraint("run_id", "name", "signature", name=op.f("uq_metrics_run_id_name_signature")),
    )
    op.create_table(
        "studies",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("design", sa.JSON(), nullable=False),
        sa.Column("design_sha256", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_studies_run_id_runs"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
        sa.UniqueConstraint("run_id", name=op.f("uq_studies_run_id")),
    )
    op.create_table(
        "case_concepts",
        sa.Column("case_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("concept_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_case_concepts_case_id_cases"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["concept_id"], ["concepts.id"], name=op.f("fk_case_concepts_concept_id_concepts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "position", name=op.f("pk_case_concepts")),
    )
    op.create_table(
        "concept_references",
        sa.Column("id", ID, nullable=False),
        sa.Column("concept_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["concept_id"], ["concepts.id"], name=op.f("fk_concept_references_concept_id_concepts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_concept_references")),
        sa.UniqueConstraint("concept_id", "position", name=op.f("uq_concept_references_concept_id_position")),
    )
    op.create_table(
        "images",
        sa.Column("id", ID, nullable=False),
        sa.Column("case_id", ID, nullable=False),
        sa.Column("arm_id", ID, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("latents_sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["arm_id"], ["arms.id"], name=op.f("fk_images_arm_id_arms"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_images_case_id_cases"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("case_id", "arm_id", "seed", name=op.f("uq_images_case_id_arm_id_seed")),
        sa.UniqueConstraint("id", "case_id", "seed", name=op.f("uq_images_id_case_id_seed")),
    )
    op.create_table(
        "participants",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("completion_code", sa.String(length=16), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("consented_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("instructed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("practiced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_participants_study_id_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_participants")),
        sa.UniqueConstraint("completion_code", name=op.f("uq_participants_completion_code")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_participants_token_sha256")),
    )
    op.create_table(
        "comparisons",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("case_id", ID, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("image_a_id", ID, nullable=False),
        sa.Column("image_b_id", ID, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("target", sa.Integer(), nullable=False),
        sa.Column("filled", sa.Integer(), nullable=False),
        sa.Column("first_left", sa.Integer(), nullable=False),
        sa.CheckConstraint("filled >= 0 AND filled <= target", name=op.f("ck_comparisons_never_over_filled")),
        sa.CheckConstraint("first_left IN (0, 1)", name=op.f("ck_comparisons_first_left")),
        sa.CheckConstraint("image_a_id <> image_b_id", name=op.f("ck_comparisons_two_images")),
        sa.CheckConstraint("target >= 1", name=op.f("ck_comparisons_target")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_comparisons_case_id_cases"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["image_a_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_comparisons_a"
        ),
        sa.ForeignKeyConstraint(
            ["image_b_id", "case_id", "seed"], ["images.id", "images.case_id", "images.seed"], name="fk_comparisons_b"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_comparisons_study_id_studies"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
        sa.UniqueConstraint("study_id", "image_a_id", "image_b_id", name=op.f("uq_comparisons_study_id_image_a_id_image_b_id")),
    )
    op.create_index("ix_comparisons_least_filled", "comparisons", ["study_id", "filled", "priority"], unique=False)
    op.create_table(
        "scores",
        sa.Column("id", ID, nullable=False),
        sa.Column("metric_id", ID, nullable=False),
        sa.Column("image_id", ID, nullable=False),
        sa.Column("concept_id", ID, nullable=True),
        sa.Column("other_image_id", ID, nullable=True),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["concept_id"], ["concepts.id"], name=op.f("fk_scores_concept_id_concepts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_scores_image_id_images"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["metric_id"], ["metrics.id"], name=op.f("fk_scores_metric_id_metrics"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["other_image_id"], ["images.id"], name=op.f("fk_scores_other_image_id_images"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scores")),
    )
    op.create_index("ix_scores_image_id", "scores", ["image_id"], unique=False)
    op.create_index(
        "uq_scores_one_value",
        "scores",
        ["metric_id", "image_id", sa.text("coalesce(concept_id, 0)"), sa.text("coalesce(other_image_id, 0)")],
        unique=True,
    )
    op.create_table(
        "assignments",
        sa.Column("id", ID, nullable=False),
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("participant_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("left", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('open', 'done', 'expired')", name=op.f("ck_assignments_state")),
        sa.CheckConstraint('"left" IN (0, 1)', name=op.f("ck_assignments_left")),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.id"], name=op.f("fk_assignments_comparison_id_comparisons"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participants.id"],
            name=op.f("fk_assignments_participant_id_participants"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
        sa.UniqueConstraint("comparison_id", "participant_id", name=op.f("uq_assignments_comparison_id_participant_id")),
        sa.UniqueConstraint("participant_id", "position", name=op.f("uq_assignments_participant_id_position")),
    )
    op.create_index("ix_assignments_state_expires_at", "assignments", ["state", "expires_at"], unique=False)
    op.create_index(
        "uq_assignments_one_open",
        "assignments",
        ["participant_id"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "judgments",
        sa.Column("id", ID, nullable=False),
        sa.Column("assignment_id", ID, nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("surplus", sa.Boolean(), nullable=False),
        sa.Column("reaction_ms", sa.Integer(), nullable=True),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("choice IN ('left', 'right', 'cannot_tell')", name=op.f("ck_judgments_choice")),
        sa.CheckConstraint("reaction_ms IS NULL OR reaction_ms >= 0", name=op.f("ck_judgments_reaction_ms")),
        sa.ForeignKeyConstraint(
            ["assignment_id"], ["assignments.id"], name=op.f("fk_judgments_assignment_id_assignments"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgments")),
        sa.UniqueConstraint("assignment_id", name=op.f("uq_judgments_assignment_id")),
    )
