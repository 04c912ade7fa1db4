"""For tests and benchmarks of this service: it loaded apart from other services, and events as API
Gateway makes them. Not part of the deployed package.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

SERVICE = Path(__file__).resolve().parents[1]
CLIENT_A = "client-of-a-in-us-east-1"
CLIENT_A_WEST = "client-of-a-in-us-west-2"
CLIENT_B = "client-of-b"
OPERATOR = "operator"
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "USER_POOL_ARNS": "arn:aws:cognito-idp:us-east-1:111122223333:userpool/us-east-1_EXAMPLE11",
    "TENANTS": json.dumps({CLIENT_A: "a", CLIENT_A_WEST: "a", CLIENT_B: "b"}),
    "DB_WRITER_HOST": "writer.invalid",
    "DB_READER_HOST": "reader.invalid",
    "DB_NAME": "todo",
    "SECRET_ARN": "arn:aws:secretsmanager:us-east-1:111122223333:secret:todo/application-EXAMPLE",
}
_OWN = ("app", "chalicelib", "regional")


def load(*names: str) -> Any:
    """The modules of this service by name, such as "app" or "chalicelib.model".

    They are imported once under their own names and then taken out of `sys.modules`, because every
    service has an `app`, a `chalicelib` and a `regional`.
    """
    modules = _load_all()
    found = tuple(modules[name] for name in names)
    return found[0] if len(found) == 1 else found


_loaded: dict[str, ModuleType] = {}


def _load_all() -> dict[str, ModuleType]:
    if _loaded:
        return _loaded
    others = _take_out()
    environment = dict(os.environ)
    paths = [str(SERVICE), str(SERVICE / "vendor")]
    sys.path[:0] = paths
    os.environ.update(ENVIRONMENT)
    try:
        importlib.import_module("app")
        for path in sorted((SERVICE / "chalicelib").glob("[a-z]*.py")):
            importlib.import_module(f"chalicelib.{path.stem}")
        _loaded.update(_take_out())
    finally:
        for path_name in paths:
            sys.path.remove(path_name)
        os.environ.clear()
        os.environ.update(environment)
        sys.modules.update(others)
    return _loaded


def _take_out() -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in _OWN}


def event(
    method: str,
    resource: str,
    *,
    client: str | None = CLIENT_A,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    base64: bool = False,
) -> dict[str, Any]:
    """A proxy event of an authorized request (API Gateway: input format for proxy integration)."""
    text = resource
    for name, value in (path or {}).items():
        text = text.replace("{" + name + "}", value)
    context: dict[str, Any] = {
        "httpMethod": method,
        "resourcePath": resource,
        "path": text,
        "requestId": "request-1",
        "identity": {"sourceIp": "192.0.2.1"},
    }
    if client is not None:
        context["authorizer"] = {"claims": {"client_id": client, "token_use": "access"}}
    headers = dict(headers or {})
    return {
        "resource": resource,
        "path": text,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {n: v[-1] for n, v in query.items()} if query else None,
        "multiValueQueryStringParameters": dict(query) if query else None,
        "pathParameters": dict(path) if path else None,
        "stageVariables": None,
        "requestContext": context,
        "body": body,
        "isBase64Encoded": base64,
    }


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls the Chalice app with events, as Lambda does."""

    def __init__(self, app: Any, client: str = CLIENT_A) -> None:
        self._app = app
        self.client = client

    def __call__(self, method: str, resource: str, document: Any = None, **more: Any) -> Answer:
        if document is not None:
            more.setdefault("body", json.dumps(document))
        if "body" in more:
            more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
        more.setdefault("client", self.client)
        answer = self._app(event(method, resource, **more), None)
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        return Answer(answer["statusCode"], headers, answer["body"])


def in_memory(
    region: str = "us-east-1", client: str = CLIENT_A, shared_fence: bool = True
) -> Client:
    """A client of the app over a new memory repository.

    `shared_fence`: what is put to the fence also stops the writes of to-dos, as on a database.
    """
    app, memory, service = load("app", "chalicelib.memory", "chalicelib.service")
    repository = memory.MemoryRepository(region)
    operations = repository if shared_fence else memory.MemoryRepository(region)
    app.service = service.TodoService(
        "todo", region, json.loads(ENVIRONMENT["TENANTS"]), repository, operations
    )
    return Client(app.app, client)
