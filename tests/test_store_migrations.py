"""The schema that the migrations make is the one that the code's tables say, and every step can be undone."""

import contextlib
import sqlite3

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from carbon_nas.store import database
from carbon_nas.store.database import connect
from carbon_nas.store.sql import SqlStore
from carbon_nas.store.tables import metadata


def schema(path):
    """Give every table and index, in SQLite's own words."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select name, sql from sqlite_master where name != 'alembic_version'")
        return {name: sql for name, sql in rows if not name.startswith("sqlite_autoindex_alembic")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.sqlite"


@pytest.fixture
def engine(path):
    engine = connect(path, begin="BEGIN IMMEDIATE", read_only=False)
    yield engine
    engine.dispose()


def migrate(engine, step, revision):
    config = database._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step(config, revision)


def test_the_migrations_make_exactly_the_tables_of_the_code(engine):
    with engine.begin() as connection:
        database.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        database.require_known_schema(connection, current=True)


def test_every_step_can_be_undone_and_made_again(engine, path):
    revisions = [
        script.revision for script in ScriptDirectory.from_config(database._config()).walk_revisions()
    ]
    shapes = {}
    for revision in reversed(revisions):
        migrate(engine, command.upgrade, revision)
        shapes[revision] = schema(path)
    assert {"jobs", "ledger", "marks"} <= shapes[revisions[0]].keys()
    for newer, older in zip(revisions, [*revisions[1:], "base"], strict=True):
        assert schema(path) == shapes[newer]
        migrate(engine, command.downgrade, older)
    assert schema(path) == {}
    migrate(engine, command.upgrade, "head")
    assert schema(path) == shapes[revisions[0]]


def test_jobs_of_before_a_migration_keep_what_refers_to_them(engine, path):
    migrate(engine, command.upgrade, "0001")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "insert into jobs (id, kind, zone, archs, state, attempt, retries_left, created_at, progress, observed)"
            """ values ('j', 'train', 'GB', '["a"]', 'suspended', 1, 2, '2023-01-10 00:00:00.000000', 0.5, 0)"""
        )
        connection.execute(
            "insert into transitions (job_id, source, target, at, why)"
            " values ('j', 'running', 'suspended', '2023-01-10 01:00:00.000000', 'dirty')"
        )
        connection.commit()
    store = SqlStore(path)
    with contextlib.closing(store):
        store.open()
        [job] = store.jobs()
        assert (job.id, job.archs, job.progress, job.epochs, job.continues) == ("j", ("a",), 0.5, None, None)
        assert [step.why for step in store.transitions()] == ["dirty"]


def test_there_is_one_line_of_revisions():
    assert len(ScriptDirectory.from_config(database._config()).get_heads()) == 1


def test_a_migration_that_fails_leaves_the_file_as_it_was(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table jobs (mine text)")
        connection.execute("insert into jobs values ('precious')")
        connection.commit()
    before = schema(path)
    store = SqlStore(path)
    with contextlib.closing(store), pytest.raises(Exception, match="table jobs already exists"):
        store.open()
    assert schema(path) == before
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select * from jobs").fetchall() == [("precious",)]


def test_opening_again_changes_nothing(path):
    shapes = []
    for _ in range(2):
        store = SqlStore(path)
        with contextlib.closing(store):
            store.open()
        shapes.append(schema(path))
    assert shapes[0] == shapes[1] != {}
