"""service1: says where it runs, and at /echo what reached it.

`/echo` takes every method and any body, which makes it the place to see what survives two gateways.

Downside: it shows a caller all of his own request. Credentials are shown as digests only, so an
answer may be pasted into a ticket.
"""

from __future__ import annotations

import base64
from typing import Any

from regional import App

app = App("service1")
app.deep()

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


@app.route("/")
def root() -> dict[str, str]:
    return {"service": app.service, "region": app.region}


@app.route("/echo", methods=METHODS, content_types=["*/*"])
def echo() -> dict[str, Any]:
    """The request as it arrived; query parameters and headers with all their values."""
    request = app.current_request
    event = request.to_original_event()
    headers = event.get("multiValueHeaders") or {}
    return {
        "service": app.service,
        "region": app.region,
        "method": request.method,
        "path": event["path"],
        "query": event.get("multiValueQueryStringParameters") or {},
        "headers": {
            name: [_digest(v) for v in values] if name.lower() == "authorization" else values
            for name, values in headers.items()
        },
        **_body(request.raw_body),
    }


def _body(raw: bytes) -> dict[str, str]:
    try:
        return {"body": raw.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(raw).decode()}


def _digest(authorization: str) -> str:
    """Scheme and SHA-256 of the credentials, for example `Bearer sha256:9f86…`."""
    import hashlib  # 2 ms that a cold start of / need not pay

    scheme, _, credentials = authorization.rpartition(" ")
    return f"{scheme} sha256:{hashlib.sha256(credentials.encode()).hexdigest()}".strip()
