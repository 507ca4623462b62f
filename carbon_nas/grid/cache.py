"""Remembers answers on disk, so that a restart does not ask a service again for what it has just said.

The key is built from method, address and parameters, and never from a secret. A file that is torn, foreign or
unreadable counts as absent: a cache may be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from carbon_nas.model import utc

MAX_CACHE_BYTES = 64 * 2**20
"""Beyond this the oldest answers go: ranges of time make each question a new one."""


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer's body, and when it was fetched."""

    body: bytes
    fetched_at: datetime


class ResponseCache:
    """Answers in `directory`, one file each: a line of JSON, then the body."""

    def __init__(self, directory: Path, *, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def get(self, key: str, now: datetime, max_age: timedelta) -> Cached | None:
        """Give what was kept under `key` less than `max_age` ago; None if there is nothing such."""
        try:
            header, _, body = self._path(key).read_bytes().partition(b"\n")
            told = json.loads(header)
            fetched_at = utc(told["fetched_at"])
            whole = told["key"] == key and told["sha256"] == hashlib.sha256(body).hexdigest()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # From the future: the machine's clock was set back, and the age is unknown.
        fresh = timedelta(0) <= now - fetched_at < max_age
        return Cached(body, fetched_at) if whole and fresh else None

    def put(self, key: str, body: bytes, now: datetime) -> None:
        """Keep `body`, whole or not at all. A full or missing disk only costs the benefit."""
        told = {"key": key, "fetched_at": now.isoformat(), "sha256": hashlib.sha256(body).hexdigest()}
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            self._write(self._path(key), json.dumps(told).encode() + b"\n" + body)
            self._prune()

    def _path(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}.answer"

    def _write(self, path: Path, content: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _prune(self) -> None:
        known = [(entry.stat(), Path(entry.path)) for entry in os.scandir(self._directory) if entry.is_file()]
        total = sum(stat.st_size for stat, _ in known)
        for stat, path in sorted(known, key=lambda one: one[0].st_mtime):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


def cache_key(method: str, url: str, params: Mapping[str, str]) -> str:
    """Name a question; the order of its parameters does not count."""
    return json.dumps([method, url, sorted(params.items())])
