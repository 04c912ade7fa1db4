"""What happens to headers between a caller and an integration. Pure tables and functions.

Source: AWS docs "Amazon API Gateway important notes", the table of headers that are remapped or
dropped, column http_proxy. What is added (`X-Forwarded-*`, `x-amzn-apigateway-api-id`, a
`User-Agent` when there is none) and that request ids of the integration come back as
`x-amzn-Remapped-*` is not in that table but what is commonly seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from lab.http1 import Headers

SIGV4 = b"AWS4-HMAC-SHA256"

DROPPED_FROM_REQUEST = frozenset(
    (
        b"content-encoding", b"content-md5", b"expect", b"max-forwards", b"proxy-authenticate",
        b"server", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"via",
        b"www-authenticate",
    )
)  # fmt: skip
OVERWRITTEN_IN_REQUEST = frozenset(
    (
        b"host", b"content-length", b"x-forwarded-for", b"x-forwarded-port", b"x-forwarded-proto",
        b"x-amzn-trace-id", b"x-amzn-apigateway-api-id",
    )
)  # fmt: skip
_NOT_PASSED = DROPPED_FROM_REQUEST | OVERWRITTEN_IN_REQUEST

DROPPED_FROM_RESPONSE = frozenset(
    (
        b"expect", b"host", b"proxy-authenticate", b"te", b"trailer", b"transfer-encoding",
        b"upgrade", b"via", b"x-amz-apigw-id", b"x-amzn-trace-id",
    )
)  # fmt: skip
REMAPPED_IN_RESPONSE = frozenset(
    (
        b"authorization", b"connection", b"content-length", b"content-md5", b"date",
        b"max-forwards", b"server", b"user-agent", b"www-authenticate", b"x-amzn-requestid",
    )
)  # fmt: skip
_CHANGED_IN_RESPONSE = DROPPED_FROM_RESPONSE | REMAPPED_IN_RESPONSE
_REMAPPED = b"x-amzn-Remapped-"
_DEFAULT_CONTENT_TYPE = (b"Content-Type", b"application/json")


def find(headers: Headers, name: bytes) -> bytes | None:
    """The last value of a header; `name` in lower case."""
    found = None
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            found = value
    return found


def passed_to_integration(headers: Headers, overridden: Mapping[bytes, bytes]) -> Headers:
    """The caller's headers that an HTTP_PROXY integration gets.

    `overridden`: those set by a request parameter mapping, names in lower case. A SigV4 signature
    in Authorization is dropped, any other value passes.
    """
    passed = []
    for header in headers:
        name = header[0].lower()
        if name in _NOT_PASSED or name in overridden:
            continue
        if name == b"authorization" and header[1].startswith(SIGV4):
            continue
        passed.append(header)
    passed.extend(overridden.items())
    return passed


def forwarding(
    headers: Headers, peer: str, port: int, root: str, api_id: str
) -> list[tuple[bytes, bytes]]:
    """What the gateway adds to a request: who called, the trace, and which API."""
    before = find(headers, b"x-forwarded-for")
    address = peer.encode()
    return [
        (b"X-Forwarded-For", address if before is None else before + b", " + address),
        (b"X-Forwarded-Port", b"%d" % port),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Amzn-Trace-Id", b"Root=" + root.encode()),
        (b"x-amzn-apigateway-api-id", api_id.encode()),
    ]


def returned_to_caller(headers: Headers) -> Headers:
    """An integration's response headers as the caller gets them; a Content-Type is always there."""
    returned = []
    has_type = False
    for name, value in headers:
        lowered = name.lower()
        if lowered not in _CHANGED_IN_RESPONSE:
            has_type = has_type or lowered == b"content-type"
            returned.append((name, value))
        elif lowered in REMAPPED_IN_RESPONSE:
            returned.append((_REMAPPED + name, value))
    if not has_type:
        returned.append(_DEFAULT_CONTENT_TYPE)
    return returned
