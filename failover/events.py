"""One stream of what happens: what a person reads, what the journal keeps, what `--json` prints.

An event is made where something is seen, with both the text for a person and the data for a
program, so that the two cannot differ. The downside is that texts are written in many modules.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    at: float
    """Seconds since the epoch."""
    ms: int
    """Milliseconds since the command started, from a clock that only goes forward."""
    kind: str
    """Dotted, for programs: `arc.accepted`, `dns.answer`, `step.failed`, …"""
    text: str
    """One line for a person; empty for an event that only programs need."""
    data: dict[str, Any]

    def document(self) -> dict[str, Any]:
        return {
            "at": iso(self.at),
            "ms": self.ms,
            "kind": self.kind,
            "text": self.text,
            **self.data,
        }


def iso(at: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Listener = Callable[[Event], None]


class Events:
    """Collects events and passes each to the listeners, in order; callable from any thread."""

    def __init__(
        self, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._started = steady()
        self.seen: list[Event] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def now_ms(self) -> int:
        """Milliseconds since the command started."""
        return round((self._steady() - self._started) * 1000)

    def emit(self, kind: str, text: str = "", **data: Any) -> Event:
        with self._lock:
            event = Event(self._clock(), self.now_ms(), kind, text, data)
            self.seen.append(event)
            for listener in self._listeners:
                listener(event)
        return event
