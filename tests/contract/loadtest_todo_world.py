"""A small todo API in two regions, with a write fence, replication and token endpoints.

It behaves as docs/todo.md says as far as a client can tell, and it can be made to misbehave: lose
answers after the change was made, answer 502 before it, stop replicating, forget keys.
"""

from __future__ import annotations

import base64
import copy
import json
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loadtest_world import REGIONS, Region, Reply, Request, World

CLIENTS = {"client-a": "a", "client-b": "b"}
SECRET = "s3cret"
PAGE = 100
Rows = dict[tuple[str, str], dict[str, str]]
"""(tenant, id) → the row"""
STOPPED = {"title": "This region does not take writes now", "status": 503, "applied": "no"}


class TodoWorld(World):
    """`with TodoWorld(folder) as world:`; `tokens_file` has one tenant, `tenants_file` two."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: dict[str, Rows] = {r: {} for r in REGIONS}
        self.keys: dict[str, dict[tuple[str, str], str]] = {r: {} for r in REGIONS}
        self.active = REGIONS[0]
        self.is_open = True
        self.is_replicating = True
        self.forgets_keys = False
        self.answers_to_lose = 0
        """So many of the next changes are made, but not answered."""
        self.bad_gateways = 0
        """So many of the next requests for a change are answered 502 and change nothing."""
        self.token_life = 3600.0
        self.tokens: dict[str, tuple[str, float]] = {}
        self.tokens_given: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        """Changes made, by region."""

    def __enter__(self) -> TodoWorld:
        super().__enter__()
        clients = {name: self._clients(name) for name in CLIENTS}
        self.tokens_file.write_text(json.dumps(clients["client-a"]))
        tenants = {CLIENTS[name]: entry for name, entry in clients.items()}
        self.tenants_file.write_text(json.dumps({"tenants": tenants}))
        return self

    @property
    def tokens_file(self) -> Path:
        return self.folder / "tokens.json"

    @property
    def tenants_file(self) -> Path:
        return self.folder / "tenants.json"

    def _clients(self, client: str) -> dict[str, Any]:
        return {
            name: {
                "token_url": f"https://{region.address}:{self.port}/oauth2/token",
                "client_id": client,
                "client_secret": SECRET,
            }
            for name, region in self.regions.items()
        }

    # What an operator does

    def drain(self) -> None:
        self.call(lambda: setattr(self, "is_open", False))

    def open(self, region: str) -> None:
        """Writes and the API's name go to `region`."""

        def switch() -> None:
            self.active, self.is_open = region, True
            self.answer = [self.regions[region].address]

        self.call(switch)

    def fail_over(self, region: str) -> tuple[Rows, Rows]:
        """`region` becomes the writer; what was not replicated to it is lost.

        Returns the rows of the region that was left and those of `region`, at that moment.
        """
        found: list[Rows] = []

        def switch() -> None:
            found.append(copy.deepcopy(self.rows[self.active]))
            found.append(copy.deepcopy(self.rows[region]))
            self.active, self.is_open, self.is_replicating = region, True, False
            self.answer = [self.regions[region].address]

        self.call(switch)
        return found[0], found[1]

    def served(self) -> Rows:
        """The rows of the region that serves now."""
        found: Rows = {}
        self.call(lambda: found.update(copy.deepcopy(self.rows[self.active])))
        return found

    # The API

    def respond(self, region: Region, request: Request) -> Reply | None:
        if request.path == "/oauth2/token":
            return self._token(region, request)
        if not request.path.startswith("/todo/") or region.mode != "ok":
            return super().respond(region, request)
        tenant = self._tenant(request)
        if tenant is None:
            return 401, {"Content-Type": "application/json"}, b'{"message":"Unauthorized"}'
        url = urlsplit(request.path.removeprefix("/todo"))
        if request.method == "GET":
            return self._read(region, tenant, url.path, parse_qs(url.query))
        if self.bad_gateways:
            self.bad_gateways -= 1
            return 502, {"Content-Type": "application/json"}, b'{"message":"Bad gateway"}'
        if not self.is_open or region.name != self.active:
            return _reply(region, 503, STOPPED, {"Retry-After": "1"})
        reply = self._change(region, tenant, url.path, request)
        if reply[0] < 300 and self.answers_to_lose:
            self.answers_to_lose -= 1
            return None
        return reply

    def _token(self, region: Region, request: Request) -> Reply:
        given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        client, _, secret = given.partition(":")
        if client not in CLIENTS or secret != SECRET or b"client_credentials" not in request.body:
            return _reply(region, 400, {"error": "invalid_client"})
        token = secrets.token_hex(8)
        self.tokens[token] = (CLIENTS[client], time.monotonic() + self.token_life)
        self.tokens_given[region.name] += 1
        return _reply(region, 200, {"access_token": token, "expires_in": self.token_life})

    def _tenant(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        tenant, ends_at = self.tokens.get(token, ("", 0.0))
        return tenant if time.monotonic() < ends_at else None

    def _read(self, region: Region, tenant: str, path: str, query: dict[str, list[str]]) -> Reply:
        rows = self.rows[region.name]
        if path != "/todos":
            row = rows.get((tenant, path.removeprefix("/todos/")))
            return _row(region, 200, row) if row else _reply(region, 404, {"title": "No such"})
        size = min(int(query.get("page_size", ["50"])[0]), PAGE)
        after = query.get("page_token", [""])[0]
        ids = sorted(i for t, i in rows if t == tenant and i > after)
        document: dict[str, Any] = {"items": [rows[tenant, i] for i in ids[:size]]}
        if len(ids) > size:
            document["next_page_token"] = ids[size - 1]
        return _reply(region, 200, document)

    def _change(self, region: Region, tenant: str, path: str, request: Request) -> Reply:
        if request.method == "POST":
            return self._create(region, tenant, request)
        place = (tenant, path.removeprefix("/todos/"))
        row = self.rows[region.name].get(place)
        if row is None:
            return _reply(region, 404, {"title": "No such to-do"})
        if request.headers["if-match"] != f'"{row["revision"]}"':
            return _reply(region, 412, {"title": "The precondition does not hold"})
        if request.method == "DELETE":
            self._store(region, place, None)
            return _reply(region, 204, None)
        changed = {**row, **json.loads(request.body), **_stamp(region)}
        self._store(region, place, changed)
        return _row(region, 200, changed)

    def _create(self, region: Region, tenant: str, request: Request) -> Reply:
        key = (tenant, request.headers["idempotency-key"])
        known = self.keys[region.name].get(key)
        if known and not self.forgets_keys:
            return _row(region, 201, json.loads(known))
        number = f"{time.time_ns():032x}{secrets.token_hex(4)}"
        row = {"id": number, **json.loads(request.body), **_stamp(region)}
        for name in self._written(region):
            self.keys[name][key] = json.dumps(row)
        self._store(region, (tenant, number), row)
        return _row(region, 201, row)

    def _store(self, region: Region, place: tuple[str, str], row: dict[str, str] | None) -> None:
        self.changes[region.name] += 1
        for name in self._written(region):
            if row is None:
                self.rows[name].pop(place, None)
            else:
                self.rows[name][place] = row

    def _written(self, region: Region) -> tuple[str, ...]:
        return REGIONS if self.is_replicating else (region.name,)


def _stamp(region: Region) -> dict[str, str]:
    return {"revision": secrets.token_hex(16), "region": region.name}


def _row(region: Region, status: int, row: dict[str, str]) -> Reply:
    return _reply(region, status, row, {"ETag": f'"{row["revision"]}"'})


def _reply(
    region: Region, status: int, document: Any, headers: dict[str, str] | None = None
) -> Reply:
    body = b"" if document is None else json.dumps(document).encode()
    content = {"Content-Type": "application/json", "X-Region": region.name}
    return status, {**content, **(headers or {})}, body
