"""The tables. A change here needs a migration in `migrations/versions`; a test compares the two."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from carbon_nas.model import require_utc


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; the database keeps it without a zone, as SQLite has none."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time, drop the zone."""
        if value is None:
            return None
        require_utc(value, "a stored time")
        return value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Values(TypeDecorator[Mapping[str, float]]):
    """Named numbers as JSON; those that JSON cannot say (nan, inf) as text, so that they are not lost."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, float] | None, dialect: Dialect) -> str | None:
        """Write the numbers."""
        if value is None:
            return None
        return json.dumps({k: v if math.isfinite(v) else str(v) for k, v in value.items()}, sort_keys=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, float] | None:
        """Read the numbers."""
        return None if value is None else {k: float(v) for k, v in json.loads(value).items()}


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

candidates = Table(
    "candidates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("arch", String, nullable=False, unique=True),
    Column("origin", String, nullable=False),
    Column("proposed_at", UtcDateTime, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("zone", String, nullable=False),
    Column("archs", JSON, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("retries_left", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deadline", UtcDateTime),
    Column("progress", Float, nullable=False),
    Column("epochs", Integer),
    Column("continues", String),  # another job
    Column("handle", JSON(none_as_null=True)),  # of the running attempt
    Column("observed", Boolean, nullable=False),  # the controller has learnt from it
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("source", String, nullable=False),
    Column("target", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("why", Text, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("arch", ForeignKey("candidates.arch"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("values", Values, nullable=False),
    Column("duration_seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    UniqueConstraint("job_id", "arch"),
)

readings = Table(
    "readings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("zone", String, nullable=False),
    Column("start", UtcDateTime, nullable=False),
    Column("end", UtcDateTime, nullable=False),
    Column("grams_per_kwh", Float, nullable=False),
    Column("quality", String, nullable=False),
    Column("signal", String, nullable=False),
    Column("basis", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("fetched_at", UtcDateTime, nullable=False),
    Index("ix_readings_zone_start", "zone", "start"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("train_slots", Integer, nullable=False),
    Column("score_slots", Integer, nullable=False),
    Column("window", String, nullable=False),
    Column("reason", Text, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("work", String, nullable=False),
    Column("job_id", ForeignKey("jobs.id"), index=True),
    Column("attempt", Integer, nullable=False),
    Column("slot_id", String),
    Column("device", String, nullable=False),
    Column("start", UtcDateTime, nullable=False),
    Column("end", UtcDateTime, nullable=False),
    Column("energy_joules", Float, nullable=False),
    Column("energy_method", String, nullable=False),
    Column("grams_per_kwh", Float, nullable=False),
    Column("quality", String, nullable=False),
    Column("signal", String, nullable=False),
    Column("basis", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("zone", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("emissions_grams", Float, nullable=False),
    Index("ix_ledger_interval", "start", "device", "job_id"),
)

marks = Table(
    "marks",
    metadata,
    Column("key", String, primary_key=True),  # one energy counter
    Column("joules", Float, nullable=False),  # up to here it is in the ledger
    Column("at", UtcDateTime, nullable=False),
)

controller = Table(
    "controller",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("state", JSON, nullable=False),
)
