"""Trainings."""

import sqlalchemy as sa
from alembic import op

from db.dialect import Timestamp

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "trainings",
        sa.Column("id", big_id, nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False, comment="the labelled folder, absolute"),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("init_weights", sa.Text(), nullable=False, comment="imagenet, none, a file or a version"),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column(
            "state",
            sa.String(length=16),
            nullable=False,
            comment="queued, running, done, failed or cancelled; running past lease_expires_at means lost",
        ),
        sa.Column("start", sa.Integer(), server_default="0", nullable=False, comment="how often started"),
        sa.Column("stage", sa.String(length=16), nullable=True, comment="what it is at"),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False, comment="epochs done"),
        sa.Column("epochs", sa.Integer(), nullable=False, comment="at most"),
        sa.Column("loss", sa.Double(), nullable=True, comment="of the last epoch, in training"),
        sa.Column("val_loss", sa.Double(), nullable=True),
        sa.Column("val_auc", sa.Double(), nullable=True),
        sa.Column("history", sa.JSON(), nullable=False, comment="all epochs"),
        sa.Column("eta_seconds", sa.Double(), nullable=True, comment="as estimated at progress_at"),
        sa.Column("progress_at", Timestamp(), nullable=True),
        sa.Column("owner", sa.String(length=255), nullable=True, comment="the worker that holds the lease"),
        sa.Column("lease_expires_at", Timestamp(), nullable=True),
        sa.Column("version", sa.String(length=64), nullable=True, comment="of the model it made"),
        sa.Column(
            "promotion_reason",
            sa.Text(),
            nullable=True,
            comment="whether the version became current, and why",
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column(
            "published_at", Timestamp(), nullable=True, comment="when a message for it was last published"
        ),
        sa.Column("started_at", Timestamp(), nullable=True),
        sa.Column("finished_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
