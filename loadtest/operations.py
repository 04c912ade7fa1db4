"""What one client did to its to-dos: operations, the author that thinks them up, and the ledger.

An author owns its rows: nobody else writes to them, and it starts no operation on a row before the
one before it has ended. That is what makes the ledger's check exact. Every text that is written is
different from every other, so a row tells which operation wrote it. A row that is not what was
acknowledged is left alone from then on, so that the traces of a loss are not written over.

The ledger is a file of JSON lines that only grows. An operation is written down when it is sent and
again when it has ended, so what a killed process leaves behind is `sent`: its outcome is unknown,
and it is never counted as lost. The downside: two lines per operation (about 700 bytes), and the
file has no fsync, so a machine that dies takes the last lines with it.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from loadtest.errors import InputError

CREATE, UPDATE, DELETE = "create", "update", "delete"
OPS = (CREATE, UPDATE, DELETE)

SENT = "sent"
"""Under way, or its client died."""
ACKNOWLEDGED = "acknowledged"
UNKNOWN = "unknown"
"""Never acknowledged within the client's patience; it may or may not have happened."""
REFUSED = "refused"
"""Answered with an error that another attempt cannot change: nothing happened."""
CONTRADICTED = "contradicted"
"""Not done because the row is not what was acknowledged before: gone, or of another revision."""
STATES = (SENT, ACKNOWLEDGED, UNKNOWN, REFUSED, CONTRADICTED)


@dataclass(frozen=True, slots=True)
class Operation:
    """One create, update or delete, with what is known of its outcome."""

    name: str
    """Different from all others; of a create also its Idempotency-Key."""
    tenant: str
    op: str
    key: str
    """The name of the create that the row began with."""
    task: str = ""
    """The text that was written; empty for a delete."""
    status: str = ""
    id: str = ""
    """The row's id; for a create it is known only from the answer."""
    base: str = ""
    """The revision on which an update or delete insists (If-Match)."""
    state: str = SENT
    revision: str = ""
    """The row's revision after an acknowledged create or update."""
    region: str = ""
    """The region that acknowledged."""
    first_sent_at: float = 0.0
    """Seconds since the epoch, just before the first attempt."""
    acked_at: float | None = None
    """When the answer that acknowledged it was complete; None unless acknowledged."""
    attempts: int = 0
    reason: str = ""
    """Why it was not acknowledged."""


class Author:
    """Thinks up the writes of one user. Call `done` with the outcome before asking again."""

    KEEP = 50
    """With so many rows it deletes rather than creates."""

    def __init__(self, name: str, tenant: str, rng: random.Random) -> None:
        """`name` must be different from every other author's, also of other runs."""
        self._name = name
        self._tenant = tenant
        self._rng = rng
        self._written = 0
        self._rows: dict[str, Operation] = {}
        """By key, the last acknowledged operation on each row that is there."""

    @property
    def ids(self) -> list[str]:
        """Of the rows that should be there."""
        return [row.id for row in self._rows.values()]

    def next(self) -> Operation:
        """Half creates, a third updates, the rest deletes."""
        self._written += 1
        name = f"{self._name}.{self._written}"
        dice = self._rng.random()
        if not self._rows or (dice < 0.5 and len(self._rows) < self.KEEP):
            return Operation(name, self._tenant, CREATE, name, f"{name} create", "todo")
        row = self._rows[self._rng.choice(list(self._rows))]
        known = Operation(name, self._tenant, DELETE, row.key, id=row.id, base=row.revision)
        if dice < 0.85:
            status = self._rng.choice(("todo", "wip", "done"))
            return replace(known, op=UPDATE, task=f"{name} update", status=status)
        return known

    def done(self, operation: Operation) -> None:
        """Takes the outcome of the last operation that `next` gave."""
        if operation.state == ACKNOWLEDGED and operation.op != DELETE:
            self._rows[operation.key] = operation
        elif operation.op != CREATE:
            self._rows.pop(operation.key, None)


class Ledger:
    """Appends operations to a file; what `begin` or `end` was given is in the file on return."""

    def __init__(self, path: str | Path) -> None:
        """Starts the file anew."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = target.open("w", encoding="utf-8", buffering=1)

    def append(self, operation: Operation) -> None:
        document = {k: v for k, v in dataclasses.asdict(operation).items() if v not in ("", None)}
        self._file.write(json.dumps(document, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


def read_ledger(paths: Iterable[str | Path]) -> dict[str, Operation]:
    """The operations by name, each with its outcome if it has one.

    A last line without its end (the writer was killed in the middle of it) is left out. Raises
    `InputError` naming every other fault.
    """
    found: dict[str, Operation] = {}
    problems: list[str] = []
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            try:
                operation = _operation(json.loads(line))
            except (ValueError, TypeError) as error:
                problems.append(f"{path}, line {number}: {error}")
                continue
            known = found.get(operation.name)
            if known is None or known.state == SENT:
                found[operation.name] = operation
    if problems:
        raise InputError(problems)
    return found


def _lines(path: str | Path) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    return text.split("\n")[:-1]


def _operation(document: Any) -> Operation:
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    operation = Operation(**document)
    if operation.op not in OPS:
        raise ValueError(f"op is {operation.op!r}")
    if operation.state not in STATES:
        raise ValueError(f"state is {operation.state!r}")
    if operation.state == ACKNOWLEDGED and operation.acked_at is None:
        raise ValueError("acknowledged without acked_at")
    return operation
