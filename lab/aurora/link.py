"""The replication link: a region's server reaches the other region's server through here only.

It adds the distance between the regions (a delay each way) and can be cut. Cut means partition: the
connections are broken, new ones are refused, and the two regions' agents do not hear of each other
(see `lab.aurora.agent`). The faults are in a file that both regions' processes read, so that either
one can be told; each region takes back its own when its process starts.

Downside: a cut is seen at once as a broken connection, where a real partition is silence at first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.aurora.splice import DelayedSide, Side, join

_CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LinkFault:
    """What one region's process was told."""

    delay_seconds: float | None = None
    cut: bool = False


class LinkFaults:
    """The faults of both regions, on disk."""

    def __init__(self, path: Path, region: str, default_delay: float) -> None:
        self._path = path
        self._region = region
        self._default = default_delay
        self._mark: tuple[int, int] | None = None
        self._faults: dict[str, LinkFault] = {}

    def put(self, fault: LinkFault) -> None:
        faults = {**self._read(), self._region: fault}
        faults = {region: f for region, f in faults.items() if f != LinkFault()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{self._region}.tmp")
        temporary.write_text(json.dumps({region: asdict(f) for region, f in faults.items()}))
        temporary.replace(self._path)

    @property
    def own(self) -> LinkFault:
        return self._read().get(self._region, LinkFault())

    @property
    def cut(self) -> bool:
        """Are the regions cut off from each other, whoever was told so?"""
        return any(fault.cut for fault in self._read().values())

    @property
    def delay(self) -> float:
        """Seconds, each way: this region's setting, else the other's, else the profile's."""
        faults = self._read()
        set_here = [faults.get(self._region, LinkFault()), *faults.values()]
        return next((f.delay_seconds for f in set_here if f.delay_seconds is not None),
                    self._default)

    def _read(self) -> dict[str, LinkFault]:
        try:
            info = self._path.stat()
            mark = (info.st_ino, info.st_mtime_ns)
            if mark != self._mark:
                document = json.loads(self._path.read_text())
                self._faults = {region: LinkFault(**fault) for region, fault in document.items()}
                self._mark = mark
        except FileNotFoundError:
            self._faults, self._mark = {}, None
        return self._faults


class Link:
    """The listener at one region's address, in front of the other region's server."""

    def __init__(self, faults: LinkFaults, target: Callable[[], tuple[str, int]]) -> None:
        self._faults = faults
        self._target = target
        self._sides: set[Side] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Accepted(self), host, port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.drop()

    def drop(self) -> None:
        """Break every connection."""
        for side in list(self._sides):
            side.abort()

    def enforce(self) -> None:
        """Break what exists if the link is cut; called often."""
        if self._sides and self._faults.cut:
            self.drop()

    @property
    def connections(self) -> int:
        return len(self._sides) // 2

    def side(self) -> DelayedSide:
        side = DelayedSide(lambda: self._faults.delay, self._sides.discard)
        self._sides.add(side)
        return side

    def accepted(self, client: _Accepted) -> None:
        if self._faults.cut:
            client.abort()
            return
        self._sides.add(client)
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: Side) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, server = await loop.create_connection(self.side, *self._target())
            join(client, server)
            return
        client.abort()

    def forget(self, side: Side) -> None:
        self._sides.discard(side)


class _Accepted(DelayedSide):
    def __init__(self, link: Link) -> None:
        super().__init__(lambda: link._faults.delay, link.forget)
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._link.accepted(self)
