"""Several methods and classes a result, and where in the picture the heat lies."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

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

HEAT = {
    "cam_border_fraction": "share of the heat in a frame an eighth of the side wide",
    "cam_corner_fraction": "share of the heat in the corners, each a quarter of the side",
    "cam_mask_fraction": "share of the heat in the marked area, where masks were given",
}


def upgrade() -> None:
    op.execute("DROP VIEW predictions")
    for name, comment in HEAT.items():
        op.add_column("results", sa.Column(name, sa.Double(), nullable=True, comment=comment))
    with op.batch_alter_table("results") as table:
        table.alter_column(
            "method",
            existing_type=sa.String(length=32),
            type_=sa.Text(),
            comment="how it was made; several are separated by commas",
        )
        table.alter_column(
            "heatmap_max",
            existing_type=sa.JSON(),
            comment="per layer, method and class, as far as several: its maximum before it was scaled to 1",
            existing_comment="per layer: the heatmap's maximum before it was scaled to 1",
        )
    op.execute(PREDICTIONS_VIEW)
