"""What the global database's control plane knows, on disk and shared by both regions' processes.

`aurora.json` is replaced as a whole under a file lock, so a process that is killed at any moment
leaves one state or the next. An operation is in it with its step and with a lease, which the
process that runs it renews: a lease that has run out means that the process died or hangs, and
another one may take the operation over (`claim`). The steps check the lease before they act.

Downside: AWS's control planes are regional and can disagree while a region is cut off; here there
is one truth, read by both. And a process that is stopped (SIGSTOP) in the few microseconds in which
it holds the lock blocks the other region's changes until it goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from lab.aurora.errors import OperationLost, StateError

LEASE_SECONDS = 3.0
LOCK_SECONDS = 2.0


class Kind(StrEnum):
    SWITCHOVER = "switchover"
    FAILOVER = "failover"


class Step(StrEnum):
    """How far an operation has come; see `lab.aurora.operation`."""

    PENDING = "pending"
    PREPARING = "preparing"
    """Switchover: synchronise, demote, wait. Failover: fence, apply what has arrived."""
    PROMOTING = "promoting"
    """The point of no return: from here the target becomes the writer."""
    FINISHING = "finishing"
    """The target is the writer; the old one is being made its replica."""
    CANCELLING = "cancelling"


@dataclass(frozen=True, slots=True)
class Operation:
    kind: Kind
    source: str
    target: str
    step: Step
    runner: str
    """The region whose process runs it."""
    token: str
    """Changes with each process that takes it over."""
    lease: float
    """Until when (epoch seconds) the runner is believed to be alive."""
    started: float
    problem: str = ""
    """Why it does not go on at the moment, past the point of no return."""

    def stuck(self, now: float) -> bool:
        """Nobody runs it, or whoever does cannot go on."""
        return bool(self.problem) or now > self.lease


@dataclass(frozen=True, slots=True)
class Resync:
    """A region whose volume has to be replaced by a copy of the writer's."""

    region: str
    since: float
    """When it was found to be needed (epoch seconds); names the snapshot."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A kept copy of a lost volume."""

    identifier: str
    region: str
    folder: str
    """Below `<lab dir>/snapshots`."""
    since: float
    """When the volume was found to be lost (epoch seconds)."""
    created: float


@dataclass(frozen=True, slots=True)
class GlobalState:
    writer: str
    """The region whose server takes writes. Changed only after that server was seen to do so."""
    operation: Operation | None = None
    resyncs: tuple[Resync, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    last: str = ""
    """How the last operation ended."""

    def resync_of(self, region: str) -> Resync | None:
        return next((r for r in self.resyncs if r.region == region), None)

    def with_resync(self, region: str, since: float) -> GlobalState:
        if self.resync_of(region):
            return self
        return replace(self, resyncs=(*self.resyncs, Resync(region, since)))

    def without_resync(self, region: str) -> GlobalState:
        return replace(self, resyncs=tuple(r for r in self.resyncs if r.region != region))


def begin(kind: Kind, source: str, target: str, runner: str, now: float) -> Operation:
    return Operation(
        kind, source, target, Step.PENDING, runner, secrets.token_hex(8), now + LEASE_SECONDS, now
    )


class StateFile:
    """`aurora.json`. All methods block for a few milliseconds at most, or raise StateError."""

    def __init__(self, path: Path, first_writer: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._first = GlobalState(first_writer)
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._state = self._first

    def read(self) -> GlobalState:
        """The state now; cheap as long as the file has not changed."""
        try:
            info = self._path.stat()
        except FileNotFoundError:
            return self._first
        mark = (info.st_ino, info.st_mtime_ns)
        if mark != self._seen:
            self._state = _parse(self._path)
            self._seen = mark
        return self._state

    @contextlib.contextmanager
    def lock(self) -> Iterator[GlobalState]:
        """The state, which nobody else changes meanwhile."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as file:
            self._acquire(file.fileno())
            yield self.read()

    def update(self, change: Callable[[GlobalState], GlobalState]) -> GlobalState:
        """Replace the state by `change` of it; returns the new one."""
        with self.lock() as state:
            wanted = change(state)
            if wanted != state or not self._path.exists():
                self._write(wanted)
            return wanted

    def advance(
        self, operation: Operation, step: Step | None = None, problem: str = ""
    ) -> Operation:
        """Renew the lease of an operation; write down its step and what holds it up.

        Raises OperationLost if another process has taken it over.
        """

        def change(state: GlobalState) -> GlobalState:
            current = _held(state, operation)
            lease = self._clock() + LEASE_SECONDS
            held = replace(current, step=step or current.step, lease=lease, problem=problem)
            return replace(state, operation=held)

        return _held(self.update(change), operation)

    def finish(
        self, operation: Operation, change: Callable[[GlobalState], GlobalState]
    ) -> GlobalState:
        """End an operation, with a last change. Raises OperationLost."""

        def end(state: GlobalState) -> GlobalState:
            _held(state, operation)
            return replace(change(state), operation=None)

        return self.update(end)

    def claim(self, operation: Operation, runner: str) -> Operation:
        """Take an operation over from a process that is gone. Raises OperationLost if it lives."""
        token = secrets.token_hex(8)

        def change(state: GlobalState) -> GlobalState:
            current = _held(state, operation)
            if current.runner != runner and self._clock() <= current.lease:
                raise OperationLost("its process is alive")
            lease = self._clock() + LEASE_SECONDS
            taken = replace(current, runner=runner, token=token, lease=lease)
            return replace(state, operation=taken)

        claimed = self.update(change).operation
        assert claimed is not None
        return claimed

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise StateError(f"{self._path} is locked by another process") from None
                time.sleep(0.002)
            else:
                return

    def _write(self, state: GlobalState) -> None:
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("w") as file:
            file.write(json.dumps(asdict(state), indent=1))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def _held(state: GlobalState, operation: Operation) -> Operation:
    if state.operation is None or state.operation.token != operation.token:
        raise OperationLost("another process has taken the operation over")
    return state.operation


def _parse(path: Path) -> GlobalState:
    try:
        document = json.loads(path.read_text())
        operation = document["operation"]
        return GlobalState(
            writer=document["writer"],
            operation=None if operation is None else _operation(operation),
            resyncs=tuple(Resync(**r) for r in document["resyncs"]),
            snapshots=tuple(Snapshot(**s) for s in document["snapshots"]),
            last=document["last"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error


def _operation(document: dict[str, object]) -> Operation:
    kind, step = Kind(str(document["kind"])), Step(str(document["step"]))
    return Operation(**{**document, "kind": kind, "step": step})  # type: ignore[arg-type]
