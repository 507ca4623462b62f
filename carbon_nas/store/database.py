"""Connections to the database, and its schema."""

from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event

from carbon_nas.errors import StoreError

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON")


def connect(path: Path, *, begin: str, read_only: bool) -> Engine:
    """Make an engine whose transactions begin with the statement `begin`."""
    mode = "ro" if read_only else "rwc"
    # As a URI, SQLite reads %, # and ? for itself: quoted, no two paths lead to one file.
    url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"})
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection: SqliteConnection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun by us, not by the driver
        for pragma in PRAGMAS[2:] if read_only else PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def upgrade(connection: Connection) -> None:
    """Bring the schema up to date, inside the connection's transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def require_known_schema(connection: Connection, *, current: bool = False) -> None:
    """See that this version can read the database; with `current`, that nothing is left to migrate.

    Raises:
        StoreError: a newer version wrote it, or it is not current.
    """
    scripts = ScriptDirectory.from_config(_config())
    known = {script.revision for script in scripts.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known:
        raise StoreError(f"written by a newer carbon-nas (schema {found}); install that version")
    if current and found != scripts.get_current_head():
        raise StoreError("not started yet, or of an older version; run the daemon once")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config
