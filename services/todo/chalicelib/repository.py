"""The to-dos and their idempotent answers in MySQL. The fence and the probes: see `operations`.

Every write is one transaction that begins by reading the fence with a share lock and carries its
epoch into the row. Every write may run twice (see `database`): its id and its revision are fixed
beforehand, so that the second run recognises what the first one did.

SQL is written for Aurora MySQL (8.0, 8.4) and MariaDB alike: LOCK IN SHARE MODE, VALUES(column), no
row aliases, no GET_LOCK, no prepared statements, nothing that pins a connection in RDS Proxy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import pymysql

from .database import Attempt, Cursor, Database
from .errors import KeyReused, NotFound, PreconditionFailed, Unavailable
from .model import UNCONDITIONAL, Changes, Condition, Key, Stamp, Todo
from .operations import read_fence

KEY_LIFETIME = timedelta(hours=24)
"""For this long a repeat with the same Idempotency-Key gets the stored answer."""
PURGE_EVERY = 50
"""Creates with a key, per execution environment, between removals of expired keys."""
PURGE_ROWS = 500
DUPLICATE_KEY = 1062

_ROWS = "SELECT id, task, status, created_at, updated_at, revision, region, epoch FROM todo"
_SELECT = _ROWS + " WHERE tenant = %s AND id = %s"
_LIST = _ROWS + " WHERE tenant = %s AND id > %s ORDER BY id LIMIT %s"
_LIST_STATUS = _ROWS + (
    " FORCE INDEX (by_status) WHERE tenant = %s AND status = %s AND id > %s ORDER BY id LIMIT %s"
)
_INSERT = (
    "INSERT INTO todo (tenant, id, task, status, created_at, updated_at, revision, region, epoch)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_UPDATE = (
    "UPDATE todo SET task = %s, status = %s, updated_at = %s, revision = %s, region = %s,"
    " epoch = %s WHERE tenant = %s AND id = %s"
)
_DELETE = "DELETE FROM todo WHERE tenant = %s AND id = %s"
_KEEP_ANSWER = (
    "INSERT INTO idempotency (tenant, idem_key, request_hash, status, body, created_at)"
    " VALUES (%s, %s, %s, %s, %s, %s)"
)
_ANSWER = (
    "SELECT request_hash, body, created_at FROM idempotency WHERE tenant = %s AND idem_key = %s"
)
_FORGET = "DELETE FROM idempotency WHERE tenant = %s AND idem_key = %s AND created_at < %s"
_PURGE = "DELETE FROM idempotency WHERE created_at < %s ORDER BY created_at LIMIT %s"
_CREATED = 201


@dataclass(frozen=True, slots=True)
class Created:
    """What POST answers with: the body as it was stored, and whether it is a repeat's."""

    body: str
    replayed: bool = False

    @property
    def id(self) -> str:
        return str(json.loads(self.body)["id"])

    @property
    def revision(self) -> str:
        return str(json.loads(self.body)["revision"])


class Repository(Protocol):
    """What the service needs. `MySqlRepository` and `MemoryRepository` keep the same contract.

    All methods may raise Unavailable; those that write also WriteRefused.
    """

    def get(self, tenant: str, todo_id: str) -> Todo:
        """Raises NotFound."""

    def page(self, tenant: str, status: str | None, after: str, limit: int) -> list[Todo]:
        """At most `limit` to-dos with an id greater than `after`, by id."""

    def create(self, todo: Todo, key: Key | None = None) -> Created:
        """Store a new to-do. With a key that was used before: the answer stored then.

        Raises KeyReused when that came with another payload.
        """

    def put(
        self, tenant: str, todo_id: str, changes: Changes, stamp: Stamp, condition: Condition
    ) -> tuple[Todo, bool]:
        """Create or replace; True when created. Raises PreconditionFailed."""

    def patch(
        self, tenant: str, todo_id: str, changes: Changes, stamp: Stamp, condition: Condition
    ) -> Todo:
        """Raises NotFound, PreconditionFailed."""

    def delete(self, tenant: str, todo_id: str, condition: Condition) -> None:
        """Raises NotFound, PreconditionFailed."""


class MySqlRepository:
    """`Repository` on Aurora MySQL or MariaDB for one region."""

    def __init__(self, database: Database, region: str) -> None:
        self._database = database
        self._region = region
        self._keys_kept = 0

    def get(self, tenant: str, todo_id: str) -> Todo:
        row = self._database.read(lambda cursor: _one(cursor, _SELECT, tenant, todo_id))
        return _todo(tenant, row)

    def page(self, tenant: str, status: str | None, after: str, limit: int) -> list[Todo]:
        def work(cursor: Cursor) -> Any:
            if status is None:
                cursor.execute(_LIST, (tenant, after, limit))
            else:
                cursor.execute(_LIST_STATUS, (tenant, status, after, limit))
            return cursor.fetchall()

        return [_todo(tenant, row) for row in self._database.read(work)]

    def create(self, todo: Todo, key: Key | None = None) -> Created:
        body = todo.document()

        def work(cursor: Cursor, _: Attempt) -> None:
            epoch = self._enter(cursor)
            if key:
                cursor.execute(
                    _KEEP_ANSWER,
                    (todo.tenant, key.value, key.request_hash, _CREATED, body, todo.created_at),
                )
            cursor.execute(_INSERT, _values(todo, epoch))

        for _ in range(2):
            try:
                self._database.write(work)
            except pymysql.IntegrityError as error:
                if error.args[0] != DUPLICATE_KEY:
                    raise
                earlier = self._earlier(todo, key)
                if earlier:
                    return earlier
            else:
                self._purge_now_and_then(todo, key)
                return Created(body)
        raise Unavailable("the change met another one too often")

    def _earlier(self, todo: Todo, key: Key | None) -> Created | None:
        """The answer that an earlier run of this create has left; None: it left none, try again."""

        def work(cursor: Cursor, _: Attempt) -> Created | None:
            if not key:
                row = _one(cursor, _SELECT, todo.tenant, todo.id)
                return Created(todo.document()) if row and row[5] == todo.revision else None
            row = _one(cursor, _ANSWER, todo.tenant, key.value)
            if row is None:
                return None
            request_hash, body, kept_at = row
            if kept_at < todo.created_at - KEY_LIFETIME:
                self._enter(cursor)
                cursor.execute(_FORGET, (todo.tenant, key.value, todo.created_at - KEY_LIFETIME))
                return None
            if request_hash != key.request_hash:
                raise KeyReused("use a new Idempotency-Key for another request")
            answer = Created(body)
            return replace(answer, replayed=answer.revision != todo.revision)

        return self._database.write(work)

    def _purge_now_and_then(self, todo: Todo, key: Key | None) -> None:
        """Remove expired keys, in a transaction of its own so that no create depends on it."""
        if not key:
            return
        self._keys_kept += 1
        if self._keys_kept % PURGE_EVERY:
            return

        def work(cursor: Cursor, _: Attempt) -> None:
            self._enter(cursor)
            cursor.execute(_PURGE, (todo.created_at - KEY_LIFETIME, PURGE_ROWS))

        try:
            self._database.write(work)
        except Unavailable:
            self._keys_kept -= 1  # the next create tries again

    def put(
        self, tenant: str, todo_id: str, changes: Changes, stamp: Stamp, condition: Condition
    ) -> tuple[Todo, bool]:
        def work(cursor: Cursor, _: Attempt) -> tuple[Todo, bool]:
            epoch = self._enter(cursor)
            row = _one(cursor, f"{_SELECT} FOR UPDATE", tenant, todo_id)
            current = _todo(tenant, row) if row else None
            if current and current.revision == stamp.revision:
                return current, current.created_at == stamp.now
            _check(condition, current)
            wanted = replaced(tenant, todo_id, current, changes, stamp, epoch)
            _store(cursor, wanted, current)
            return wanted, current is None

        for _ in range(2):
            try:
                return self._database.write(work)
            except pymysql.IntegrityError as error:  # another request created it in between
                if error.args[0] != DUPLICATE_KEY:
                    raise
        raise Unavailable("the change met another one too often")

    def patch(
        self, tenant: str, todo_id: str, changes: Changes, stamp: Stamp, condition: Condition
    ) -> Todo:
        def work(cursor: Cursor, _: Attempt) -> Todo:
            epoch = self._enter(cursor)
            current = _todo(tenant, _one(cursor, f"{_SELECT} FOR UPDATE", tenant, todo_id))
            if current.revision == stamp.revision:
                return current
            _check(condition, current)
            wanted = merged(current, changes, stamp, epoch)
            _store(cursor, wanted, current)
            return wanted

        return self._database.write(work)

    def delete(self, tenant: str, todo_id: str, condition: Condition = UNCONDITIONAL) -> None:
        def work(cursor: Cursor, attempt: Attempt) -> None:
            self._enter(cursor)
            row = _one(cursor, f"{_SELECT} FOR UPDATE", tenant, todo_id)
            if row is None and attempt.maybe_committed:
                return
            _check(condition, _todo(tenant, row))
            cursor.execute(_DELETE, (tenant, todo_id))

        self._database.write(work)

    def _enter(self, cursor: Cursor) -> int:
        """Hold the fence open for this transaction; its epoch. Raises WriteRefused."""
        fence = read_fence(cursor, "LOCK IN SHARE MODE")
        fence.require(self._region)
        return fence.epoch


def merged(current: Todo, changes: Changes, stamp: Stamp, epoch: int) -> Todo:
    """The row after a merge patch."""
    return replace(
        current,
        task=current.task if changes.task is None else changes.task,
        status=current.status if changes.status is None else changes.status,
        updated_at=stamp.now,
        revision=stamp.revision,
        region=stamp.region,
        epoch=epoch,
    )


def replaced(
    tenant: str, todo_id: str, current: Todo | None, changes: Changes, stamp: Stamp, epoch: int
) -> Todo:
    """The row after PUT: everything is replaced but the time of creation."""
    created_at = current.created_at if current else stamp.now
    return Todo(
        tenant,
        todo_id,
        changes.task or "",
        changes.status or "todo",
        created_at,
        stamp.now,
        stamp.revision,
        stamp.region,
        epoch,
    )


def _check(condition: Condition, current: Todo | None) -> None:
    if not condition.holds(current.revision if current else None):
        raise PreconditionFailed(
            "the to-do has another revision" if current else "there is no such to-do"
        )


def _store(cursor: Cursor, wanted: Todo, current: Todo | None) -> None:
    if current is None:
        cursor.execute(_INSERT, _values(wanted, wanted.epoch))
        return
    cursor.execute(
        _UPDATE,
        (
            wanted.task,
            wanted.status,
            wanted.updated_at,
            wanted.revision,
            wanted.region,
            wanted.epoch,
            wanted.tenant,
            wanted.id,
        ),
    )


def _values(todo: Todo, epoch: int) -> tuple[Any, ...]:
    return (
        todo.tenant,
        todo.id,
        todo.task,
        todo.status,
        todo.created_at,
        todo.updated_at,
        todo.revision,
        todo.region,
        epoch,
    )


def _one(cursor: Cursor, sql: str, *values: Any) -> Any:
    cursor.execute(sql, values)
    return cursor.fetchone()


def _todo(tenant: str, row: Any) -> Todo:
    if row is None:
        raise NotFound("there is no to-do with this id")
    return Todo(tenant, *row)
