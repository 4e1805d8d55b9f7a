"""Indexes that give results in the order of their images, so that the first of many are found at once."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.drop_index("results_status", "results")
    op.drop_index("results_class", "results")
    op.create_index("results_status", "results", ["run_id", "status", "image_id", "probability", "reason"])
    op.create_index("results_class", "results", ["run_id", "class", "image_id", "probability"])
