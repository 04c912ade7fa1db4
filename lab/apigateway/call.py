"""One request on its way through the gateway: what every step may need to know of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from lab.apigateway.definition import Method
from lab.apigateway.domains import Target
from lab.http1 import Headers

ACCOUNT_ID = "111122223333"


@dataclass(slots=True)
class Call:
    """`path` is raw and whole (with base path or stage), `query` raw, `now` in epoch seconds."""

    region: str
    http_method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    peer: str
    port: int
    host: str
    now: float
    request_id: str
    extended_request_id: str
    trace_root: str
    target: Target
    method: Method
    path_parameters: Mapping[str, str]
    authorizer: Mapping[str, Any] | None = None
    _query_pairs: list[tuple[str, str]] | None = field(default=None)

    @property
    def query_pairs(self) -> list[tuple[str, str]]:
        """Query parameters, decoded, in their order."""
        if self._query_pairs is None:
            self._query_pairs = parse_qsl(self.query, keep_blank_values=True) if self.query else []
        return self._query_pairs

    def evaluate(self, expression: str) -> str | None:
        """The value of a mapping expression such as 'text', method.request.header.X or
        context.stage; None when the request has no such thing.

        Source: AWS docs "Parameter mapping source reference".
        """
        if expression[0] == "'":
            return expression[1:-1]
        place, _, name = expression.removeprefix("method.request.").partition(".")
        if place == "path":
            return self.path_parameters.get(name)
        if place == "querystring":
            return dict(self.query_pairs).get(name)
        if place == "header":
            wanted = name.lower().encode()
            values = [v for n, v in self.headers if n.lower() == wanted]
            return values[-1].decode("latin-1") if values else None
        return self._context(name)

    def _context(self, name: str) -> str | None:
        api = self.target.stage.api
        return {
            "accountId": ACCOUNT_ID,
            "apiId": api.id,
            "domainName": self.host,
            "extendedRequestId": self.extended_request_id,
            "httpMethod": self.http_method,
            "identity.sourceIp": self.peer,
            "path": self.path,
            "requestId": self.request_id,
            "resourcePath": self.method.resource_path,
            "stage": self.target.stage.name,
        }.get(name)
