"""The first schema: tables of runs, images, results, models, workers, trainings; the view of predictions.

It follows `db.schema` until the first release, which writes it out here as it is then.
"""

from alembic import op

from db.schema import create_schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_schema(op.get_bind())
