"""Errors as problem documents (RFC 9457, `application/problem+json`).

A view raises `Problem`; Chalice's own errors are turned into one by `regional.app`. A document
holds what the author of the error wrote and nothing of the exception behind it.
"""

from __future__ import annotations

from typing import Any

from chalice import ChaliceUnhandledError, Response

CONTENT_TYPE = "application/problem+json"

# The table spares the import of `http`, whose enumerations cost 2 ms at each cold start.
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    428: "Precondition Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Problem(ChaliceUnhandledError):
    """An answer that is an error, raised anywhere below a view.

    `status`: 400 to 599. `detail`: one sentence for the caller about this occurrence. `type`: a
    URI naming the kind of problem. `title`: its short name; that of the status when empty.
    `headers`: further headers of the answer, for example `{"Retry-After": "1"}`. `members`:
    extension members of the document, for example `errors=[{"pointer": "/task", …}]`.
    """

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        type: str = "about:blank",
        title: str = "",
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(f"{status} {detail}")
        self.status = status
        self.headers = headers or {}
        self.document: dict[str, Any] = {
            "type": type,
            "title": title or _TITLES.get(status, "Error"),
            "status": status,
        }
        if detail:
            self.document["detail"] = detail
        self.document.update(members)

    def response(self, request_id: str = "") -> Response:
        """The answer; `request_id` lets the caller name the request when asking about it."""
        document = {**self.document, "request_id": request_id} if request_id else self.document
        return Response(document, {**self.headers, "Content-Type": CONTENT_TYPE}, self.status)
