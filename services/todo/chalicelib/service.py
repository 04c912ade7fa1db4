"""From a request to an answer: what each route does, without Chalice and without SQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import validation
from .errors import PreconditionFailed, UnknownClient
from .model import Condition, Stamp, Todo, new_revision, uuid7_maker
from .operations import Operations
from .repository import Created, Repository
from .validation import Call


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: str = ""
    """JSON text; empty for none."""
    headers: Mapping[str, str] = field(default_factory=dict)


def utc_now() -> datetime:
    """UTC without tzinfo, as the database holds it."""
    return datetime.now(UTC).replace(tzinfo=None)


class TodoService:
    """The API's behaviour over a repository and the operator's side of a database.

    Its methods take the proxy event of API Gateway and raise TodoError's children.
    """

    def __init__(
        self,
        name: str,
        region: str,
        tenants: Mapping[str, str],
        repository: Repository,
        operations: Operations,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._name = name
        self._region = region
        self._tenants = tenants
        self._repository = repository
        self._operations = operations
        self._clock = clock
        self._new_id = uuid7_maker()

    def list(self, event: Mapping[str, Any]) -> Reply:
        tenant = self._tenant(event)
        query = validation.read_page(Call.from_event(event), tenant)
        rows = self._repository.page(tenant, query.status, query.after, query.size + 1)
        page = rows[: query.size]
        answer: dict[str, Any] = {"items": [row.representation() for row in page]}
        if len(rows) > query.size:
            answer["next_page_token"] = validation.page_token(tenant, query.status, page[-1].id)
        return Reply(200, _json(answer))

    def create(self, event: Mapping[str, Any]) -> Reply:
        tenant = self._tenant(event)
        changes, key = validation.read_create(Call.from_event(event))
        stamp = self._stamp()
        todo = Todo(
            tenant,
            self._new_id(),
            changes.task or "",
            changes.status or "todo",
            stamp.now,
            stamp.now,
            stamp.revision,
            stamp.region,
        )
        return _created(self._repository.create(todo, key))

    def get(self, event: Mapping[str, Any]) -> Reply:
        tenant = self._tenant(event)
        todo_id, condition = validation.read_one(Call.from_event(event))
        todo = self._repository.get(tenant, todo_id)
        if not Condition(match=condition.match).holds(todo.revision):
            raise PreconditionFailed("the to-do has another revision")
        if not condition.holds(todo.revision):
            return Reply(304, headers=_etag(todo.revision))
        return _whole(todo)

    def put(self, event: Mapping[str, Any]) -> Reply:
        tenant = self._tenant(event)
        todo_id, changes, condition = validation.read_put(Call.from_event(event))
        todo, is_new = self._repository.put(tenant, todo_id, changes, self._stamp(), condition)
        return _whole(todo, 201 if is_new else 200)

    def patch(self, event: Mapping[str, Any]) -> Reply:
        tenant = self._tenant(event)
        todo_id, changes, condition = validation.read_patch(Call.from_event(event))
        return _whole(self._repository.patch(tenant, todo_id, changes, self._stamp(), condition))

    def delete(self, event: Mapping[str, Any]) -> Reply:
        tenant = self._tenant(event)
        todo_id, condition = validation.read_one(Call.from_event(event))
        self._repository.delete(tenant, todo_id, condition)
        return Reply(204)

    def get_fence(self, event: Mapping[str, Any]) -> Reply:
        validation.read_nothing(Call.from_event(event))
        return self._with_region(self._operations.fence().representation())

    def put_fence(self, event: Mapping[str, Any]) -> Reply:
        wanted = validation.read_fence(Call.from_event(event))
        stored = self._operations.set_fence(wanted, self._clock())
        return self._with_region(stored.representation())

    def shallow(self, _event: Mapping[str, Any]) -> Reply:
        return self._with_region({})

    def depth(self, event: Mapping[str, Any]) -> Reply:
        """200 when this region can serve at least reads, else 503; `writable` says the rest."""
        validation.read_nothing(Call.from_event(event))
        depth = self._operations.depth()
        return self._with_region(depth, 200 if depth["readable"] else 503)

    def lag(self, event: Mapping[str, Any]) -> Reply:
        validation.read_nothing(Call.from_event(event))
        return self._with_region(self._operations.lag())

    def _tenant(self, event: Mapping[str, Any]) -> str:
        """Raises UnknownClient. The gateway has verified the token; this trusts its claims."""
        authorizer = event["requestContext"].get("authorizer") or {}
        client = (authorizer.get("claims") or {}).get("client_id")
        tenant = self._tenants.get(client) if isinstance(client, str) else None
        if tenant is None:
            raise UnknownClient("ask the operator to map this client to a tenant")
        return tenant

    def _stamp(self) -> Stamp:
        return Stamp(self._clock(), new_revision(), self._region)

    def _with_region(self, answer: dict[str, Any], status: int = 200) -> Reply:
        return Reply(status, _json({"service": self._name, "region": self._region, **answer}))


def _whole(todo: Todo, status: int = 200) -> Reply:
    return Reply(status, todo.document(), _etag(todo.revision))


def _created(created: Created) -> Reply:
    headers = {**_etag(created.revision), "Location": f"todos/{created.id}"}
    if created.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Reply(201, created.body, headers)


def _etag(revision: str) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
