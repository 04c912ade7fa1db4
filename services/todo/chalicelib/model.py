"""A to-do, its identity and its conditions: pure values, no database and no HTTP.

Ids are UUIDv7 (RFC 9562): time-ordered, so the primary key grows at its end and pages follow the
order of creation; made without asking the database, so a database that lost its last writes in an
unplanned failover never issues an id twice. The price is 36 bytes a key, and that an id tells when
it was made.

Revisions (ETags) are random, not counted: after a lossy failover a counter would give the same
number to two different contents.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

STATUSES = ("todo", "wip", "done")
MAX_TASK = 2000
"""Characters. Four bytes each and escaped, a statement stays below the 16 KB above which RDS Proxy
pins the connection (RDS Proxy: avoiding pinning)."""


@dataclass(frozen=True, slots=True)
class Todo:
    """One row. `epoch` and `region` say under which fence and where it was written last."""

    tenant: str
    id: str
    task: str
    status: str
    created_at: datetime
    """UTC without tzinfo, as DATETIME(6) holds it."""
    updated_at: datetime
    revision: str
    region: str
    epoch: int = 0

    def representation(self) -> dict[str, str]:
        """The members that a client sees."""
        return {
            "id": self.id,
            "task": self.task,
            "status": self.status,
            "created_at": timestamp(self.created_at),
            "updated_at": timestamp(self.updated_at),
            "revision": self.revision,
            "region": self.region,
        }

    def document(self) -> str:
        """The answer's body. Not ASCII-escaped: that would triple the bytes of the statement that
        keeps it as an idempotent answer."""
        return json.dumps(self.representation(), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Changes:
    """The members that a client may set; None leaves one as it is."""

    task: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the service gives to one change, fixed before its first attempt.

    Because the revision is known beforehand, an attempt that follows a lost answer recognises the
    row that the first attempt wrote.
    """

    now: datetime
    revision: str
    region: str


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key and the hash of the payload that came with it."""

    value: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Condition:
    """If-Match and If-None-Match (RFC 9110 section 13). `"*"` in a set stands for any revision."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def holds(self, revision: str | None) -> bool:
        """Whether it holds for the current `revision`; None: there is no such row."""
        if self.match is not None and not _among(revision, self.match):
            return False
        return self.none_match is None or not _among(revision, self.none_match)


UNCONDITIONAL = Condition()


def _among(revision: str | None, revisions: frozenset[str]) -> bool:
    return revision is not None and ("*" in revisions or revision in revisions)


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds and Z."""
    return moment.isoformat(timespec="microseconds") + "Z"


def new_revision() -> str:
    return os.urandom(16).hex()


def uuid7_maker(
    clock_ns: Callable[[], int] = time.time_ns, random: Callable[[int], bytes] = os.urandom
) -> Callable[[], str]:
    """A maker of UUIDv7 strings, each greater than the one before in this process.

    The 12 bits after the milliseconds hold the fraction of the millisecond (RFC 9562 section 6.2,
    method 3); a clock that stands still or goes back counts on from the last value.
    """
    last = 0

    def make() -> str:
        nonlocal last
        last = max((clock_ns() << 12) // 1_000_000, last + 1)
        tail = int.from_bytes(random(8), "big") & (1 << 62) - 1
        value = last >> 12 << 80 | 7 << 76 | (last & 0xFFF) << 64 | 2 << 62 | tail
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return make
