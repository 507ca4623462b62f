"""What services have been seen to answer instead of data. None of it holds a value, so each must end in an error.

`FAULTS` are whole answers. `damaged` and its like take a good answer and spoil one kind of thing in it everywhere, as
services have done one row at a time.
"""

import gzip
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MIB = 2**20
BOMB = gzip.compress(b" " * (64 * MIB), 9)  # 64 KB, until it is opened
ELSEWHERE = "http://elsewhere.invalid/data"


@dataclass(frozen=True, slots=True)
class Fault:
    """One answer. `announced` is the length it claims where it sends less; with `stalls` it never ends."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    stalls: bool = False

    @property
    def needs_a_server(self) -> bool:
        """Whether only a real connection can show it."""
        return self.stalls or self.announced is not None


HTML = {"content-type": "text/html"}
ENTSOE_NO_DATA = (
    b'<?xml version="1.0"?><Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:'
    b'acknowledgementdocument:7:0"><Reason><code>999</code><text>No matching data found</text></Reason>'
    b"</Acknowledgement_MarketDocument>"
)
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><l>&c;</l>'
)

FAULTS: Mapping[str, Fault] = {
    "null": Fault(body=b"null"),
    "zero": Fault(body=b"0"),
    "empty object": Fault(body=b"{}"),
    "empty list": Fault(body=b"[]"),
    "nothing": Fault(body=b""),
    "empty data": Fault(
        body=b'{"data":[],"records":[],"results":[],"history":[],"forecast":[],"response":{"data":[]}}'
    ),
    "object where a list was": Fault(
        body=b'{"data":{"a":1},"records":{"a":1},"results":{"a":1},"history":{"a":1},"forecast":{"a":1},'
        b'"unix_seconds":{"a":1},"response":{"data":{"a":1}}}'
    ),
    "list where an object was": Fault(body=b'[["data"]]'),
    "an error in a 200": Fault(body=b'{"error":{"code":"500","message":"try later"}}'),
    "reason 999 in a 200": Fault(body=ENTSOE_NO_DATA, headers={"content-type": "text/xml"}),
    "entities that multiply": Fault(body=LAUGHS, headers={"content-type": "text/xml"}),
    "HTML in a 200": Fault(body=b"<!DOCTYPE html><title>Maintenance</title>", headers=HTML),
    "HTML 403": Fault(403, b"<html><h1>Forbidden</h1></html>", HTML),
    "401": Fault(401, b'{"error":"Invalid auth-token"}'),
    "404": Fault(404, b'{"detail":"not found"}'),
    "400": Fault(400, b'{"error":"bad request"}'),
    "500": Fault(500, b"oops"),
    "503 with a pause": Fault(503, b"", {"retry-after": "3600"}),
    "429 with Retry-After": Fault(429, b"", {"retry-after": "3600"}),
    "NaN": Fault(body=b'{"data":[{"value":NaN}],"zone":NaN}'),
    "cut-off JSON": Fault(body=b'{"data":[{"from":"2023-01-0'),
    "cut-off body": Fault(body=b'{"data":[', announced=1000),
    "deep JSON": Fault(body=b"[" * 100_000),
    "not UTF-8": Fault(body=b'{"data":"\xff\xfe"}'),
    "redirect to another host": Fault(302, b"", {"location": ELSEWHERE}),
    "redirect in circles": Fault(307, b"", {"location": "?again=1"}),
    "10 MB": Fault(body=b'{"data":"' + b"x" * (10 * MIB) + b'"}'),
    "gzip bomb": Fault(body=BOMB, headers={"content-encoding": "gzip"}),
    "broken gzip": Fault(body=b"no gzip at all", headers={"content-encoding": "gzip"}),
    "cut-off gzip": Fault(body=gzip.compress(b'{"data":[]}')[:-6], headers={"content-encoding": "gzip"}),
    "unknown compression": Fault(body=b"\x1b\x03\x00", headers={"content-encoding": "br"}),
    "slow body": Fault(body=b'{"data":[', stalls=True),
}

ISO_TIME = re.compile(r"^(\d{4}-\d{2}-\d{2}T[\d:.]+)(Z|[+-]\d{2}:?\d{2})$")


def _spoil(content: Any, change: Callable[[str | None, Any], Any], key: str | None = None) -> Any:
    """Give a copy of JSON with `change(key, leaf)` in place of each leaf."""
    if isinstance(content, dict):
        return {name: _spoil(value, change, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_spoil(value, change, key) for value in content]
    return change(key, content)


def damaged(body: bytes, values: frozenset[str], bad: object) -> bytes:
    """Put `bad` in place of every value that stands under one of the names `values`."""
    return json.dumps(_spoil(json.loads(body), lambda key, leaf: bad if key in values else leaf)).encode()


def renamed(body: bytes, zone: str) -> bytes:
    """Let the answer be for another zone: put `elsewhere` in place of `zone` wherever it stands alone."""
    return json.dumps(
        _spoil(json.loads(body), lambda _, leaf: "elsewhere" if str(leaf) == zone else leaf)
    ).encode()


def naive(body: bytes) -> bytes:
    """Take the zone off every time."""
    return json.dumps(
        _spoil(json.loads(body), lambda _, leaf: ISO_TIME.sub(r"\1", leaf) if isinstance(leaf, str) else leaf)
    ).encode()
