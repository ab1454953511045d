"""Run the migrations on the connection `db.schema` hands over."""

from alembic import context

from db.models import DatabaseTable

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=DatabaseTable.metadata,
    render_as_batch=True,
    # SQLite can undo its DDL; Alembic only assumes it can't
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
