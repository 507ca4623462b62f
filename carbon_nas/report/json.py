"""The report for machines: JSON, sorted, with a checksum over its own content.

The same record gives the same bytes. `content_sha256` is SHA-256 of the same document without that key, written
as here but without indentation.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

from carbon_nas.report.model import Report

CHECKSUM = "content_sha256"


def to_plain(value: Any) -> Any:
    """Turn a report, or a part of one, into what JSON can hold. Times become ISO 8601 with `Z`."""
    if dataclasses.is_dataclass(value):
        return {
            field.metadata.get("key", field.name): to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def content_sha256(content: Mapping[str, Any]) -> str:
    """Give the checksum of a report in its plain form; its own key is left out."""
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    return hashlib.sha256(_canonical(rest).encode()).hexdigest()


def render_json(report: Report) -> str:
    """Write the report as JSON, with its checksum."""
    content = to_plain(report)
    return (
        json.dumps(
            {**content, CHECKSUM: content_sha256(content)},
            sort_keys=True,
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        )
        + "\n"
    )


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
