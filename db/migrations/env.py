"""Run by Alembic: migrates over the connection, and inside the transaction, that `db.migrate` opened."""

from alembic import context

from db.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
