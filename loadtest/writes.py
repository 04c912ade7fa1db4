"""One write of the todo API, tried until it is acknowledged or its deadline has passed.

A create carries an Idempotency-Key and may be repeated blindly, in whichever region. An update or
delete carries If-Match: if the answer to the first attempt was lost, the repeat is refused with 412
(or 404) because the first one was applied, so then the row is read and compared; its text tells.
An update whose row was found to hold its text is acknowledged by that answer.

Three kinds of attempts that did not do it are told apart: `refused` (503 of the service that says
that nothing was changed: writes are stopped, or it cannot write now), `repeated` (no answer, 429,
another 5xx, or an answer that is not the service's), and the last one, which ends the operation.

The downside: `Retry-After` is honoured only up to `Patience.pause`, because the gap in writes is
what is measured and a client that sleeps for a second would measure its sleep.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from loadtest.answer import REGION_HEADER
from loadtest.errors import TokenError
from loadtest.operations import (
    ACKNOWLEDGED,
    CONTRADICTED,
    CREATE,
    DELETE,
    REFUSED,
    UNKNOWN,
    UPDATE,
    Operation,
)
from loadtest.sender import Answer
from loadtest.tokens import Tokens

Send = Callable[[str, str, Mapping[str, str], bytes], Answer]
"""(method, path below the service, headers, body) → answer"""

ATTEMPT_REFUSED = "refused"
ATTEMPT_REPEATED = "repeated"
_AGAIN = (0, 401, 408, 425, 429, 500, 502, 503, 504)
_METHODS = {CREATE: "POST", UPDATE: "PATCH", DELETE: "DELETE"}
_GOOD = {CREATE: 201, UPDATE: 200, DELETE: 204}
_BAD_REQUEST, _UNAUTHORIZED, _NOT_FOUND, _PRECONDITION_FAILED, _UNAVAILABLE = (
    400,
    401,
    404,
    412,
    503,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How a client waits, in seconds."""

    deadline: float = 30.0
    """From the first attempt; an attempt that is under way then is waited for."""
    pause: float = 0.1
    """The longest pause between two attempts, also when Retry-After asks for more."""


def authorized(send: Send, tokens: Tokens) -> Send:
    """`send` with a token. Without a token there is no answer; a 401 makes it get another one."""

    def with_token(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        try:
            token = tokens.header()
        except TokenError:
            return Answer(0, reason="no token")
        answer = send(method, path, {**headers, "Authorization": token}, body)
        if answer.status == _UNAUTHORIZED:
            tokens.reject(token)
        return answer

    return with_token


class Writer:
    """Carries out operations, one at a time. `on_attempt` is told of each attempt that did not do
    it and is followed by another: (ATTEMPT_REFUSED or ATTEMPT_REPEATED, reason)."""

    def __init__(
        self,
        send: Send,
        patience: Patience,
        on_attempt: Callable[[str, str], None],
        sleep: Callable[[float], None],
        clock: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._send = send
        self._patience = patience
        self._on_attempt = on_attempt
        self._sleep = sleep
        self._clock = clock
        self._uniform = uniform

    def carry_out(self, operation: Operation) -> Operation:
        """Returns it with its outcome. `operation.first_sent_at` is set by the caller, before it
        writes it into the ledger."""
        maybe_applied = False
        attempts = 0
        while True:
            attempts += 1
            answer = self._send(*_request(operation))
            outcome = self._read(operation, answer, maybe_applied)
            if outcome is not None:
                return replace(outcome, attempts=attempts)
            kind, reason = _why_again(answer)
            maybe_applied = maybe_applied or kind != ATTEMPT_REFUSED
            if self._clock() - operation.first_sent_at >= self._patience.deadline:
                return replace(operation, state=UNKNOWN, attempts=attempts, reason=reason)
            self._on_attempt(kind, reason)
            # Spread out, so that many clients do not come back all at once.
            self._sleep(self._pause(answer) * self._uniform(0.5, 1.0))

    def _pause(self, answer: Answer) -> float:
        asked = answer.headers.get("retry-after", "")
        wanted = float(asked) if asked.isdigit() else self._patience.pause
        return min(wanted, self._patience.pause)

    def _read(self, operation: Operation, answer: Answer, maybe: bool) -> Operation | None:
        """The operation with its outcome; None: try again."""
        if answer.status == _GOOD[operation.op]:
            return self._good(operation, answer)
        if answer.status in _AGAIN:
            return None
        if operation.op != CREATE and answer.status in (_NOT_FOUND, _PRECONDITION_FAILED):
            # Only the service's own word counts, not a 404 of a gateway on the way.
            return self._compared(operation, answer, maybe) if _region(answer) else None
        return replace(operation, state=REFUSED, reason=f"HTTP {answer.status}")

    def _good(self, operation: Operation, answer: Answer) -> Operation | None:
        region = _region(answer)
        if not region:
            return None
        if operation.op == DELETE:
            return self._acknowledged(operation, region)
        row = answer.document()
        if not (isinstance(row.get("id"), str) and isinstance(row.get("revision"), str)):
            return None
        if (row.get("task"), row.get("status")) != (operation.task, operation.status):
            reason = f"{answer.status} with another content"
            return replace(operation, state=REFUSED, reason=reason)
        return self._acknowledged(operation, region, row["id"], row["revision"])

    def _acknowledged(
        self, operation: Operation, region: str, row_id: str = "", revision: str = ""
    ) -> Operation:
        return replace(
            operation,
            state=ACKNOWLEDGED,
            region=region,
            id=row_id or operation.id,
            revision=revision,
            acked_at=self._clock(),
        )

    def _compared(self, operation: Operation, answer: Answer, maybe: bool) -> Operation | None:
        """After 404 or 412: was it an earlier attempt of this operation that did it?"""
        contradicted = replace(operation, state=CONTRADICTED, reason=f"HTTP {answer.status}")
        if answer.status == _NOT_FOUND:
            if operation.op == DELETE and maybe:
                return self._acknowledged(operation, _region(answer))
            return contradicted
        seen = self._send("GET", f"/todos/{operation.id}", {}, b"")
        if not _region(seen):
            return None
        if seen.status == _NOT_FOUND:
            return contradicted
        row = seen.document()
        if seen.status != 200 or row.get("revision") == operation.base:
            return None
        if operation.op == UPDATE and row.get("task") == operation.task:
            return self._good(operation, seen)
        return contradicted


def _region(answer: Answer) -> str:
    return answer.headers.get(REGION_HEADER.lower(), "")


def _request(operation: Operation) -> tuple[str, str, dict[str, str], bytes]:
    method = _METHODS[operation.op]
    if operation.op == DELETE:
        return method, f"/todos/{operation.id}", {"If-Match": f'"{operation.base}"'}, b""
    body = json.dumps({"task": operation.task, "status": operation.status}).encode()
    if operation.op == CREATE:
        headers = {"Content-Type": "application/json", "Idempotency-Key": operation.name}
        return method, "/todos", headers, body
    headers = {"Content-Type": "application/merge-patch+json", "If-Match": f'"{operation.base}"'}
    return method, f"/todos/{operation.id}", headers, body


def _why_again(answer: Answer) -> tuple[str, str]:
    """The kind of an attempt that has to be followed by another, and the reason in a few words."""
    if answer.status == 0:
        return ATTEMPT_REPEATED, answer.reason
    if answer.status == _UNAVAILABLE:
        problem = answer.document()
        if problem.get("applied") == "no":
            return ATTEMPT_REFUSED, str(problem.get("title", "HTTP 503"))
        if "applied" in problem:
            return ATTEMPT_REPEATED, "HTTP 503, perhaps applied"
    if answer.status < _BAD_REQUEST or answer.status in (_NOT_FOUND, _PRECONDITION_FAILED):
        return ATTEMPT_REPEATED, f"HTTP {answer.status}, not conclusive"
    return ATTEMPT_REPEATED, f"HTTP {answer.status}"
