"""What can go wrong, as a caller sees it.

TodoError                 becomes a problem document with `status`
├─ InvalidRequest         400, 413 or 415: every fault of the request
├─ UnknownClient          403: the token's client belongs to no tenant
├─ NotFound               404: this tenant has no such row
├─ FenceConflict          409: the wanted fence is older than the stored one
├─ PreconditionFailed     412: If-Match or If-None-Match does not hold
├─ KeyReused              422: this Idempotency-Key came with another payload before
└─ Unavailable            503: the database cannot be used now; `Retry-After` is set
   └─ WriteRefused        503: this region does not take writes (passive, or being drained)
SettingsError             the environment variables cannot be used (at start)
MigrationRefused          `migrate` was asked in the wrong region, or a file was changed
"""

from __future__ import annotations

from typing import Any

RETRY_AFTER = 1
"""Seconds. The shortest whole number: a planned move's write gap is about that long."""


class TodoError(Exception):
    """A refusal with an HTTP status; `extra` are further members of the problem document."""

    status = 500
    title = "Internal error"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        self.headers: dict[str, str] = {}


class InvalidRequest(TodoError):
    title = "The request is not valid"

    def __init__(
        self, status: int, errors: list[dict[str, str]], headers: dict[str, str] | None = None
    ) -> None:
        count = len(errors)
        super().__init__(
            errors[0]["detail"] if count == 1 else f"{count} faults, see errors", errors=errors
        )
        self.status = status
        self.headers = headers or {}


class UnknownClient(TodoError):
    status = 403
    title = "The client belongs to no tenant"


class NotFound(TodoError):
    status = 404
    title = "No such to-do"


class FenceConflict(TodoError):
    status = 409
    title = "The fence does not allow this"


class PreconditionFailed(TodoError):
    status = 412
    title = "The precondition does not hold"


class KeyReused(TodoError):
    status = 422
    title = "The Idempotency-Key was used with another payload"


class Unavailable(TodoError):
    """The database cannot be used now.

    `applied` is "no" when the change certainly did not happen, "unknown" when the connection was
    lost during COMMIT: then only a repeat with the same key, id or ETag tells.
    """

    status = 503
    title = "The database cannot be used now"

    def __init__(self, detail: str, applied: str = "no", **extra: Any) -> None:
        super().__init__(detail, applied=applied, **extra)
        self.headers = {"Retry-After": str(RETRY_AFTER)}


class WriteRefused(Unavailable):
    title = "This region does not take writes now"


class SettingsError(Exception):
    """The environment cannot be used; the text names every reason."""


class MigrationRefused(Exception):
    """The schema was not changed; the text says why."""
