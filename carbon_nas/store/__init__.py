"""What survives a crash: SQLite (or another database by URL) behind SQLAlchemy, its schema kept by Alembic."""
