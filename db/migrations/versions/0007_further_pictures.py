"""The further pictures of a check, where more than two are judged at once."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "further_pictures",
        sa.Column("check_id", ID, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("image_id", ID, nullable=True),
        sa.Column("reference_id", ID, nullable=True),
        sa.CheckConstraint("place BETWEEN 2 AND 7", name=op.f("ck_further_pictures_place")),
        sa.CheckConstraint("(image_id IS NULL) <> (reference_id IS NULL)", name=op.f("ck_further_pictures_one")),
        sa.ForeignKeyConstraint(
            ["check_id"], ["checks.id"], name=op.f("fk_further_pictures_check_id_checks"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_further_pictures_image_id_images"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["reference_id"],
            ["concept_references.id"],
            name=op.f("fk_further_pictures_reference_id_concept_references"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("check_id", "place", name=op.f("pk_further_pictures")),
    )
