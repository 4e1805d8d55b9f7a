"""The first schema: tables of runs, images, results, models, workers, trainings; the view of predictions."""

import sqlalchemy as sa
from alembic import op

from db.dialect import Timestamp

revision = "0001"
down_revision = None

PREDICTIONS_VIEW = """
CREATE VIEW predictions AS
SELECT images.run_id AS run,
       runs.root || '/' || images.path AS path,
       CASE WHEN results.status IS NOT NULL THEN results.status
            WHEN runs.state = 'cancelled' THEN 'cancelled'
            ELSE 'pending' END AS status,
       results."class" AS "class",
       results.probability AS probability,
       results.target_class AS target_class,
       results.logit AS logit,
       results.layer AS layer,
       results.method AS method,
       results.blank AS blank,
       results.cam_border_fraction AS cam_border_fraction,
       results.cam_corner_fraction AS cam_corner_fraction,
       results.cam_mask_fraction AS cam_mask_fraction,
       results.overlay AS overlay,
       results.heatmap AS heatmap,
       results.model_version AS model_version,
       results.reason AS reason,
       results.error AS error,
       results.sha256 AS sha256,
       runs.created_at AS enqueued_at,
       results.finished_at AS finished_at
FROM images
JOIN runs ON runs.id = images.run_id
LEFT JOIN results ON results.image_id = images.id
"""


def upgrade() -> None:
    big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "models",
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column(
            "digest", sa.String(length=64), nullable=False, comment="SHA-256 of the folder's model.json"
        ),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="where it came from"),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("promoted_at", Timestamp(), nullable=True, comment="the version promoted last is current"),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "runs",
        sa.Column("id", big_id, nullable=False),
        sa.Column("root", sa.Text(), nullable=False, comment="the folder, absolute"),
        sa.Column("output", sa.Text(), nullable=False, comment="where this run's overlays go, absolute"),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column(
            "pinned_model",
            sa.String(length=64),
            nullable=True,
            comment="null: whichever model is current as a chunk starts",
        ),
        sa.Column(
            "signature", sa.String(length=64), nullable=False, comment="SHA-256 of folder, model and options"
        ),
        sa.Column(
            "repeat", sa.Integer(), nullable=False, comment="counts the forced repeats of one signature"
        ),
        sa.Column("chunk_size", sa.Integer(), nullable=False),
        sa.Column(
            "state", sa.String(length=16), nullable=False, comment="scanning, open, stopped or cancelled"
        ),
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("scanned_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("signature", "repeat", name="runs_signature"),
    )
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
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False, comment="of the launcher"),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=True),
        sa.Column("activity", sa.Text(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("started_at", Timestamp(), nullable=False),
        sa.Column("last_heartbeat_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "chunks",
        sa.Column("run_id", big_id, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True, comment="the worker that holds the lease"),
        sa.Column("lease_expires_at", Timestamp(), nullable=True),
        sa.Column(
            "leases", sa.Integer(), server_default="0", nullable=False, comment="how often it was leased"
        ),
        sa.Column(
            "published_at", Timestamp(), nullable=True, comment="when a message for it was last published"
        ),
        sa.Column("finished_at", Timestamp(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "number"),
    )
    op.create_index(
        "chunks_unfinished",
        "chunks",
        ["run_id", "number"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "images",
        sa.Column("id", big_id, nullable=False),
        sa.Column("run_id", big_id, nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, comment="relative to the run's root"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes, as scanned"),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False, comment="modification time, as scanned"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "path", name="images_path"),
    )
    op.create_index("images_chunk", "images", ["run_id", "chunk"], unique=False)
    op.create_table(
        "results",
        sa.Column("image_id", big_id, nullable=False),
        sa.Column("run_id", big_id, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False, comment="done or failed"),
        sa.Column(
            "reason", sa.String(length=32), nullable=True, comment="why it failed, in one word to count by"
        ),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed, in a sentence"),
        sa.Column("sha256", sa.String(length=64), nullable=True, comment="of the file's content as read"),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("class", sa.Text(), nullable=True, comment="the predicted class"),
        sa.Column("probability", sa.Double(), nullable=True, comment="of the predicted class"),
        sa.Column("probabilities", sa.JSON(), nullable=True, comment="of every class"),
        sa.Column("target_class", sa.Text(), nullable=True),
        sa.Column("logit", sa.Double(), nullable=True, comment="of the explained class, before the softmax"),
        sa.Column(
            "layer", sa.Text(), nullable=True, comment="the heatmap's layer; several are separated by commas"
        ),
        sa.Column(
            "method", sa.Text(), nullable=True, comment="how it was made; several are separated by commas"
        ),
        sa.Column(
            "heatmap_max",
            sa.JSON(),
            nullable=True,
            comment="per layer, method and class, as far as several: its maximum before it was scaled to 1",
        ),
        sa.Column(
            "cam_border_fraction",
            sa.Double(),
            nullable=True,
            comment="share of the heat in a frame an eighth of the side wide",
        ),
        sa.Column(
            "cam_corner_fraction",
            sa.Double(),
            nullable=True,
            comment="share of the heat in the corners, each a quarter of the side",
        ),
        sa.Column(
            "cam_mask_fraction",
            sa.Double(),
            nullable=True,
            comment="share of the heat in the marked area, where masks were given",
        ),
        sa.Column(
            "blank",
            sa.Boolean(),
            nullable=True,
            comment="true where no positive evidence for the class was found",
        ),
        sa.Column("overlay", sa.Text(), nullable=True),
        sa.Column("heatmap", sa.Text(), nullable=True, comment="file with the raw heatmaps, where kept"),
        sa.Column("model_version", sa.String(length=64), nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=True),
        sa.Column("finished_at", Timestamp(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id"),
    )
    op.create_index("results_class", "results", ["run_id", "class", "image_id", "probability"], unique=False)
    op.create_index(
        "results_status", "results", ["run_id", "status", "image_id", "probability", "reason"], unique=False
    )
    op.execute(PREDICTIONS_VIEW)
