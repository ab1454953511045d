"""Comparisons of more than two images: the further ones, their arrangement on the page, and choices among them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CHOICE = "choice IN ('left', 'right', 'cannot_tell') OR substr(choice, 1, 1) IN ('1', '2', '3', '4', '5', '6', '7', '8')"


def upgrade() -> None:
    """Go forward."""
    op.add_column("assignments", sa.Column("arrangement", sa.Text(), nullable=True))
    with op.batch_alter_table("comparisons") as comparisons:
        # several comparisons of more than two may begin with the same two
        comparisons.drop_constraint(op.f("uq_comparisons_study_id_image_a_id_image_b_id"), type_="unique")
        comparisons.create_unique_constraint(op.f("uq_comparisons_study_id_priority"), ["study_id", "priority"])
        comparisons.create_unique_constraint(op.f("uq_comparisons_id_case_id_seed"), ["id", "case_id", "seed"])
    for name in ("judgments", "answers", "withdrawals", "checks"):
        with op.batch_alter_table(name) as table:
            table.drop_constraint(op.f(f"ck_{name}_choice"), type_="check")
            table.create_check_constraint(op.f(f"ck_{name}_choice"), CHOICE)
            if name == "checks":
                table.drop_constraint(op.f("ck_checks_expected"), type_="check")
                table.create_check_constraint(op.f("ck_checks_expected"), CHOICE.replace("choice", "expected"))
    op.create_table(
        "further_images",
        sa.Column("comparison_id", ID, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("image_id", ID, nullable=False),
        sa.Column("case_id", ID, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("place BETWEEN 2 AND 7", name=op.f("ck_further_images_place")),
        sa.ForeignKeyConstraint(
            ["comparison_id", "case_id", "seed"],
            ["comparisons.id", "comparisons.case_id", "comparisons.seed"],
            name=op.f("fk_further_images_comparison"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["image_id", "case_id", "seed"],
            ["images.id", "images.case_id", "images.seed"],
            name=op.f("fk_further_images_image"),
        ),
        sa.PrimaryKeyConstraint("comparison_id", "place", name=op.f("pk_further_images")),
        sa.UniqueConstraint("comparison_id", "image_id", name=op.f("uq_further_images_comparison_id_image_id")),
    )
