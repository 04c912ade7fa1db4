"""The service behind a WSGI shim that does what API Gateway does before it calls the function:
matches the path, checks the token's scope, makes the proxy event. In one process, on one token per
scope. For schemathesis; the rules of tokens themselves are the gateway's business.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from todo_testing import CLIENT_A, event

TOKEN = "a-token-with-every-scope"  # noqa: S105
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Gateway:
    """A WSGI application over a Chalice app."""

    def __init__(self, app: Any, client: str = CLIENT_A) -> None:
        self._app = app
        self._client = client
        self._routes = [
            (path, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))) for path in app.routes
        ]

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        body = (answer["body"] or "").encode()
        headers = [*answer["headers"].items(), ("Content-Length", str(len(body)))]
        start_response(f"{answer['statusCode']} ", headers)
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def _answer(self, environ: dict[str, Any]) -> dict[str, Any]:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        method = environ["REQUEST_METHOD"]
        for resource, pattern in self._routes:
            match = pattern.fullmatch(path)
            if match:
                entry = self._app.routes[resource].get(method)
                if entry and entry.authorizer and not _is_authorized(environ):
                    return _refusal(401, "Unauthorized")
                made = self._event(environ, method, resource, match.groupdict())
                return dict(self._app(made, None))
        return _refusal(403, "Missing Authentication Token")

    def _event(
        self, environ: dict[str, Any], method: str, resource: str, path: dict[str, str]
    ) -> dict[str, Any]:
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = {
            name[5:].replace("_", "-").title(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        if environ.get("CONTENT_TYPE"):
            headers["Content-Type"] = environ["CONTENT_TYPE"]
        try:
            body, is_base64 = raw.decode(), False
        except UnicodeDecodeError:
            body, is_base64 = base64.b64encode(raw).decode(), True
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, errors="replace")
        return event(
            method,
            resource,
            client=self._client,
            path=path,
            query=query,
            headers=headers,
            body=body or None,
            base64=is_base64,
        )


def _is_authorized(environ: dict[str, Any]) -> bool:
    given = environ.get("HTTP_AUTHORIZATION", "")
    return given.removeprefix("Bearer ") == TOKEN


def _refusal(status: int, message: str) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps({"message": message}),
    }
