"""Alembic's entry: runs the migrations on the engine that schema.py hands over. Offline SQL scripts are not
supported."""

from alembic import context
from hypersdk_kernel.store.tables import metadata

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    if connection.dialect.name == "postgresql":  # a migration may take as long as it takes
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.exec_driver_sql(f"SET {name} = 0")
        connection.commit()
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration=True, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("RESET ALL")
        connection.commit()
