"""Two TCP connections joined into one: what one side receives, the other sends, in order.

Bytes are passed on as they come, so TLS goes through from end to end. A side that is slow to take
data stops the other one's reading. Downside: nothing of what passes is understood, so nothing can
be limited or rewritten per statement.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

_MAX_DELAYED = 2**24
"""Bytes under way at most; then the sender has to wait."""


class Side(asyncio.Protocol):
    """One of the two connections. Until it has a peer it keeps what it receives."""

    def __init__(self, on_lost: Callable[[Side], None] = lambda _: None) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Side | None = None
        self.first_data: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when something has been received, or the connection is lost."""
        self.lost = False
        self._kept: list[bytes] = []
        self._on_lost = on_lost

    @property
    def has_received(self) -> bool:
        return bool(self._kept)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.pass_on(data)
            return
        self._kept.append(data)
        if not self.first_data.done():
            self.first_data.set_result(None)

    def pass_on(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.send(data)

    def send(self, data: bytes) -> None:
        if self.transport is not None and not self.lost:
            self.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None and not self.peer.lost:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        if not self.first_data.done():
            self.first_data.set_result(None)
        if self.peer is not None:
            self.peer.end()
        self._on_lost(self)

    def end(self) -> None:
        """Send what is left, then close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close now."""
        if self.transport is not None:
            self.transport.abort()

    def release(self) -> None:
        """Pass on what was kept."""
        kept, self._kept = self._kept, []
        for data in kept:
            self.pass_on(data)


def join(one: Side, other: Side) -> None:
    """From now on each is the other's peer."""
    one.peer, other.peer = other, one
    for side, peer in ((one, other), (other, one)):
        if side.lost:
            peer.end()
        side.release()


class DelayedSide(Side):
    """Passes on what it receives `delay()` seconds later, in the order in which it came.

    What is under way when a connection is lost is lost with it: so goes the data that a dead region
    had not yet sent.
    """

    def __init__(self, delay: Callable[[], float], on_lost: Callable[[Side], None]) -> None:
        super().__init__(on_lost)
        self._delay = delay
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def pass_on(self, data: bytes) -> None:
        delay = self._delay()
        if delay <= 0 and not self._under_way:
            super().pass_on(data)
            return
        due = asyncio.get_running_loop().time() + delay
        if self._under_way:
            due = max(due, self._under_way[-1][0])
        self._under_way.append((due, data))
        self._bytes += len(data)
        if self._bytes > _MAX_DELAYED and self.transport is not None:
            self.transport.pause_reading()
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._under_way[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time() + 0.0005
        was_full = self._bytes > _MAX_DELAYED
        while self._under_way and self._under_way[0][0] <= now:
            _, data = self._under_way.popleft()
            self._bytes -= len(data)
            super().pass_on(data)
        if was_full and self._bytes <= _MAX_DELAYED and self.transport is not None:
            self.transport.resume_reading()
        if self._under_way:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._under_way.clear()
        super().connection_lost(exc)
