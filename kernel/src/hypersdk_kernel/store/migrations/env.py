"""Alembic's entry: runs the migrations on the engine that schema.py hands over. Offline SQL scripts are not
supported."""

from alembic import context
from hypersdk_kernel.store.tables import metadata

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration=True, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
