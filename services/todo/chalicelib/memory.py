"""The repository and the operator's side in memory, under the same contract as in MySQL.

For tests and for trying the routes without a database. One process, no transactions: nothing of it
is shared between execution environments or survives them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from .errors import KeyReused, NotFound, PreconditionFailed
from .fence import OPEN, Fence, agreed
from .model import UNCONDITIONAL, Changes, Condition, Key, Stamp, Todo
from .repository import KEY_LIFETIME, Created, merged, replaced


class MemoryRepository:
    """`Repository` and `Operations` of one region over dictionaries."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._rows: dict[tuple[str, str], Todo] = {}
        self._answers: dict[tuple[str, str], tuple[str, str, datetime]] = {}
        self._fence = Fence(1, region, OPEN)

    def get(self, tenant: str, todo_id: str) -> Todo:
        row = self._rows.get((tenant, todo_id))
        if row is None:
            raise NotFound("there is no to-do with this id")
        return row

    def page(self, tenant: str, status: str | None, after: str, limit: int) -> list[Todo]:
        rows = (
            row
            for (owner, todo_id), row in sorted(self._rows.items())
            if owner == tenant and todo_id > after and status in (None, row.status)
        )
        return [row for row, _ in zip(rows, range(limit), strict=False)]

    def create(self, todo: Todo, key: Key | None = None) -> Created:
        self._fence.require(self._region)
        slot = (todo.tenant, key.value if key else "")
        kept = self._answers.get(slot)
        if key and kept and kept[2] >= todo.created_at - KEY_LIFETIME:
            if kept[0] != key.request_hash:
                raise KeyReused("use a new Idempotency-Key for another request")
            return Created(kept[1], replayed=True)
        body = todo.document()
        if key:
            self._answers[slot] = (key.request_hash, body, todo.created_at)
        self._rows[todo.tenant, todo.id] = replace(todo, epoch=self._fence.epoch)
        return Created(body)

    def put(
        self, tenant: str, todo_id: str, changes: Changes, stamp: Stamp, condition: Condition
    ) -> tuple[Todo, bool]:
        self._fence.require(self._region)
        current = self._rows.get((tenant, todo_id))
        if not condition.holds(current.revision if current else None):
            raise PreconditionFailed("the to-do has another revision")
        row = replaced(tenant, todo_id, current, changes, stamp, self._fence.epoch)
        self._rows[tenant, todo_id] = row
        return row, current is None

    def patch(
        self, tenant: str, todo_id: str, changes: Changes, stamp: Stamp, condition: Condition
    ) -> Todo:
        self._fence.require(self._region)
        current = self.get(tenant, todo_id)
        if not condition.holds(current.revision):
            raise PreconditionFailed("the to-do has another revision")
        row = merged(current, changes, stamp, self._fence.epoch)
        self._rows[tenant, todo_id] = row
        return row

    def delete(self, tenant: str, todo_id: str, condition: Condition = UNCONDITIONAL) -> None:
        self._fence.require(self._region)
        current = self.get(tenant, todo_id)
        if not condition.holds(current.revision):
            raise PreconditionFailed("the to-do has another revision")
        del self._rows[tenant, todo_id]

    def fence(self) -> Fence:
        return self._fence

    def set_fence(self, wanted: Fence, now: datetime) -> Fence:
        self._fence = agreed(self._fence, wanted, self._region, now)
        return self._fence

    def depth(self) -> dict[str, Any]:
        endpoint = {"ok": True, "milliseconds": 0.0}
        return {
            "writable": self._fence.allows(self._region),
            "readable": True,
            "fence": self._fence.representation(),
            "writer": endpoint,
            "reader": endpoint,
        }

    def lag(self) -> dict[str, Any]:
        return {"lag_milliseconds": 0, "heartbeat": None}
