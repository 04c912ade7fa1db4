"""The HTTP proxy integration: the request that goes to the endpoint, byte by byte. Pure.

Source: AWS docs "Set up HTTP proxy integrations", "Amazon API Gateway important notes" ("API
Gateway REST APIs decode URL-encoded request parameters before passing them to backend
integrations"). So `%2F` in a path parameter reaches the endpoint as a slash. What must be encoded
in an address is encoded again.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from lab.apigateway.call import Call
from lab.apigateway.definition import HttpProxy
from lab.apigateway.headers import find, forwarding, passed_to_integration
from lab.apigateway.media_types import pass_through
from lab.apigateway.routes import ANY

_PATH_SAFE = "/:@!$&'()*+,;=~-._"
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


def method_of(integration: HttpProxy, call: Call) -> str:
    """ANY passes the caller's method on."""
    return call.http_method if integration.method == ANY else integration.method


def encode_request(integration: HttpProxy, call: Call) -> bytes:
    """The whole request for the endpoint."""
    method = method_of(integration, call)
    host = integration.host if integration.port in (80, 443) else (
        f"{integration.host}:{integration.port}"
    )  # fmt: skip
    overridden = {}
    for name, expression in integration.headers.items():
        value = call.evaluate(expression)
        if value is not None:
            one_line = value.replace("\r", " ").replace("\n", " ")
            overridden[name.lower().encode()] = one_line.encode("latin-1", "replace")
    headers = passed_to_integration(call.headers, overridden)
    if find(headers, b"user-agent") is None:
        headers.append((b"User-Agent", b"AmazonAPIGateway_" + call.target.stage.api.id.encode()))
    headers += forwarding(
        call.headers, call.peer, call.port, call.trace_root, call.target.stage.api.id
    )
    binary_types = call.target.stage.api.binary_types
    body = pass_through(call.body, find(call.headers, b"content-type"), binary_types)
    if body or method in _WITH_BODY:
        headers.append((b"Content-Length", b"%d" % len(body)))
    parts = [f"{method} {target_of(integration, call)} HTTP/1.1\r\nHost: {host}\r\n".encode()]
    parts.extend(b"%b: %b\r\n" % header for header in headers)
    parts.append(b"\r\n")
    parts.append(body)
    return b"".join(parts)


def target_of(integration: HttpProxy, call: Call) -> str:
    """Path and query at the endpoint."""
    pieces = list(integration.path)
    for at in range(1, len(pieces), 2):
        value = call.evaluate(integration.path_parameters[pieces[at]])
        pieces[at] = quote(value or "", safe=_PATH_SAFE)
    query = _query(integration, call)
    return "".join(pieces) + ("?" + query if query else "")


def _query(integration: HttpProxy, call: Call) -> str:
    """The integration's own parameters, then the caller's, then mapped ones."""
    parts = [integration.query] if integration.query else []
    if call.query:
        is_plain = "%" not in call.query and "+" not in call.query
        parts.append(call.query if is_plain else urlencode(call.query_pairs, quote_via=quote))
    for name, expression in integration.querystring.items():
        value = call.evaluate(expression)
        if value is not None:
            parts.append(urlencode({name: value}, quote_via=quote))
    return "&".join(parts)
