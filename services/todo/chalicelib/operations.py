"""The operator's side: the fence, the depth of this region and the replication lag.

All of it works on connections opened for the question: one that was opened before its server was
demoted goes on answering SELECT, so it proves nothing. The price is a TLS handshake each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import pymysql

from .database import Attempt, Cursor, Database
from .errors import Unavailable, WriteRefused
from .fence import Fence, agreed
from .model import timestamp

_FENCE = "SELECT epoch, active_region, state, updated_at FROM fence WHERE id = 1"
_SET_FENCE = (
    "UPDATE fence SET epoch = %s, active_region = %s, state = %s, updated_at = %s WHERE id = 1"
)
_READ_ONLY = "SELECT @@read_only, @@innodb_read_only"
"""MariaDB and MySQL say it in the first, Aurora's readers in the second."""
_BEAT = (
    "INSERT INTO heartbeat (region, epoch, beat_at) VALUES (%s, %s, %s)"
    " ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), beat_at = VALUES(beat_at)"
)
_LAST_BEAT = "SELECT region, epoch, beat_at FROM heartbeat ORDER BY beat_at DESC LIMIT 1"
_AURORA_LAG = (
    "SELECT rpo_lag_in_milliseconds FROM information_schema.aurora_global_db_status"
    " WHERE aws_region = %s"
)
_DRAIN_WAIT = 5
"""Seconds for which a change of the fence waits for the writes in flight."""
_PROBE_WAIT = 1
_NO_SUCH_TABLE = (1109, 1146)


class Operations(Protocol):
    """What the operator routes need."""

    def fence(self) -> Fence:
        """As this region's database has it now. Raises Unavailable."""

    def set_fence(self, wanted: Fence, now: datetime) -> Fence:
        """Returns when no write that saw the old fence is in flight.

        Raises FenceConflict, Unavailable (also when those writes do not end in time) and
        WriteRefused (this region's database is not the writer).
        """

    def depth(self) -> dict[str, Any]:
        """What this region can do now; see the API's description. Raises nothing of its own."""

    def lag(self) -> dict[str, Any]:
        """How far this region's copy is behind. Raises Unavailable."""


class MySqlOperations:
    """`Operations` on the region's database endpoints."""

    def __init__(
        self,
        database: Database,
        region: str,
        drain_wait: int = _DRAIN_WAIT,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._drain_wait = drain_wait
        self._database = database
        self._region = region
        self._clock = clock

    def fence(self) -> Fence:
        try:
            return self._database.fresh_read(read_fence)
        except Unavailable:
            return self._database.fresh_read(read_fence, reader=True)

    def set_fence(self, wanted: Fence, now: datetime) -> Fence:
        def work(cursor: Cursor, _: Attempt) -> Fence:
            stored = agreed(read_fence(cursor, "FOR UPDATE"), wanted, self._region, now)
            cursor.execute(
                _SET_FENCE, (stored.epoch, stored.active_region, stored.state, stored.updated_at)
            )
            return stored

        return self._database.fresh_write(work, self._drain_wait)

    def depth(self) -> dict[str, Any]:
        writer, fence = self._timed(self._probe_writer)
        reader, seen = self._timed(self._probe_reader)
        fence = fence or seen
        writable = writer["ok"] and fence is not None and fence.allows(self._region)
        return {
            "writable": writable,
            "readable": writer["ok"] or reader["ok"],
            "fence": fence.representation() if fence else None,
            "writer": writer,
            "reader": reader,
        }

    def lag(self) -> dict[str, Any]:
        try:
            return self._database.fresh_read(self._read_lag, reader=True)
        except Unavailable:
            return self._database.fresh_read(self._read_lag)

    def _timed(self, probe: Callable[[], Fence]) -> tuple[dict[str, Any], Fence | None]:
        begun = self._clock()
        fence = None
        answer: dict[str, Any] = {"ok": True}
        try:
            fence = probe()
        except Unavailable as error:
            answer = {"ok": False, "detail": error.detail}
        answer["milliseconds"] = round((self._clock() - begun) * 1000, 1)
        return answer, fence

    def _probe_writer(self) -> Fence:
        """The fence, after the writer has really taken a write.

        The write is committed (as heartbeat) only where the fence allows writes; elsewhere it is
        rolled back, so that a region that must not write leaves nothing.
        """

        def work(cursor: Cursor, _: Attempt) -> Fence:
            cursor.execute(_READ_ONLY)
            if any(cursor.fetchone()):
                raise WriteRefused("the database is read-only in this region")
            fence = read_fence(cursor, "LOCK IN SHARE MODE")
            cursor.execute(_BEAT, (self._region, fence.epoch, _now()))
            if not fence.allows(self._region):
                raise _RolledBack(fence)
            return fence

        try:
            return self._database.fresh_write(work, _PROBE_WAIT)
        except _RolledBack as done:
            return done.fence

    def _probe_reader(self) -> Fence:
        return self._database.fresh_read(read_fence, reader=True)

    def _read_lag(self, cursor: Cursor) -> dict[str, Any]:
        cursor.execute(_LAST_BEAT)
        row = cursor.fetchone()
        beat = None
        if row:
            region, epoch, beat_at = row
            age = (_now() - beat_at).total_seconds() * 1000
            beat = {
                "region": region,
                "epoch": epoch,
                "at": timestamp(beat_at),
                "age_milliseconds": round(age, 1),
            }
        return {"lag_milliseconds": self._aurora_lag(cursor), "heartbeat": beat}

    def _aurora_lag(self, cursor: Cursor) -> int | None:
        """RPO lag from Aurora's own view; None where there is no such view or no row of ours."""
        try:
            cursor.execute(_AURORA_LAG, (self._region,))
        except pymysql.MySQLError as error:
            if error.args[0] in _NO_SUCH_TABLE:
                return None
            raise
        row = cursor.fetchone()
        return int(row[0]) if row and row[0] is not None else None


class _RolledBack(Exception):
    """Ends the probe's transaction without COMMIT, with what it found."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence


def read_fence(cursor: Cursor, lock: str = "") -> Fence:
    """The fence row, read with `lock` (a clause of SQL). Raises Unavailable."""
    cursor.execute(f"{_FENCE} {lock}")
    row = cursor.fetchone()
    if row is None:
        raise Unavailable("the fence has no row; run the migrate function")
    return Fence(*row)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
