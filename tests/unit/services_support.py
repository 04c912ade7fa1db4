"""Loads a service's app.py as the Lambda runtime would, several in one process one after another.

Every service calls its modules `app`, `chalicelib` and `regional`; `loaded` forgets them, the path
and the environment again when it ends, so requests are made inside of it.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVICES = Path(__file__).resolve().parents[2] / "services"
OWN = ("app", "chalicelib", "regional")
REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"


class Context:
    aws_request_id = REQUEST_ID


@contextmanager
def isolated(*folders: Path, **environment: str) -> Iterator[None]:
    """The path begins with `folders`; modules, path and environment are put back at the end."""
    before = dict(os.environ), list(sys.path), sys.dont_write_bytecode
    os.environ.update({"AWS_REGION": "us-east-1", **environment})
    for name in ("SERVICE_NAME", "LAMBDA_TASK_ROOT", "_X_AMZN_TRACE_ID"):
        if name not in environment:
            os.environ.pop(name, None)
    sys.path[:0] = map(str, folders)
    sys.dont_write_bytecode = True  # what lies in vendor/ would be packaged
    _forget()
    try:
        yield
    finally:
        _forget()
        os.environ.clear()
        os.environ.update(before[0])
        sys.path[:], sys.dont_write_bytecode = before[1:]


@contextmanager
def loaded(service: str, **environment: str) -> Iterator[Any]:
    """The `app` of a service."""
    folder = SERVICES / service
    with isolated(folder, folder / "vendor", **environment):
        yield importlib.import_module("app").app


@contextmanager
def regional(**environment: str) -> Iterator[Any]:
    """The shared package."""
    with isolated(SERVICES / "shared", **environment):
        yield importlib.import_module("regional")


def _forget() -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in OWN:
            del sys.modules[name]


def event(
    path: str = "/",
    method: str = "GET",
    *,
    resource: str | None = None,
    parameters: dict[str, str] | None = None,
    headers: dict[str, list[str]] | None = None,
    query: dict[str, list[str]] | None = None,
    body: str | None = None,
    is_base64: bool = False,
) -> dict[str, Any]:
    """A REST API proxy event (API Gateway Developer Guide, "Input format of a Lambda function")."""
    headers = headers or {"Host": ["service1.example.test"]}
    resource = resource or path
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {k: v[-1] for k, v in query.items()} if query else None,
        "multiValueQueryStringParameters": query,
        "pathParameters": parameters,
        "stageVariables": None,
        "requestContext": {"resourcePath": resource, "httpMethod": method, "stage": "api"},
        "body": body,
        "isBase64Encoded": is_base64,
    }


def call(app: Any, *args: Any, **kwargs: Any) -> tuple[int, dict[str, str], Any]:
    """Status, headers and decoded body of one request."""
    answer = app(event(*args, **kwargs), Context)
    body = json.loads(answer["body"]) if answer["body"] else None
    return answer["statusCode"], answer["headers"], body
