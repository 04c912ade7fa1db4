"""Keeps one region's server in the role that the global database has for it.

Every server starts read-only. The agent of its region reads the shared state and, when no operation
is under way, sees to it that the writer takes writes and the other server replicates from it, that
a lost volume is replaced, and that an operation whose process has died is taken over. It looks at
its server ten times a second, and a hundred times during an operation; the proxy judges by what it
saw last.

While the regions are cut off from each other an agent changes no role: an old primary that does not
know of a failover goes on taking writes (split brain), as AWS warns, until the cut is healed.

Downside: between a change of role and the next look the proxy can admit a connection to a server
that is no longer the writer; the server's own 1290 stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from lab.aurora import operation as operations
from lab.aurora.errors import AuroraError, OperationLost, SqlFailed
from lab.aurora.files import AuroraFiles
from lab.aurora.operation import Surroundings
from lab.aurora.resync import reseed, snapshot_identifier, take_snapshot
from lab.aurora.sql import Replication
from lab.aurora.state import GlobalState, Operation, Resync, Snapshot, Step

LOOK_SECONDS = 0.1
BUSY_LOOK_SECONDS = 0.01
_REPLICATION_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 60.0
_COPY_SECONDS = 10.0
"""For one statement while a volume is replaced: a big table takes a while to drop."""


@dataclass(frozen=True, slots=True)
class View:
    """What the agent saw of its own server at its last look."""

    read_only: bool | None = None
    """None: it has not answered yet."""
    reachable: bool = False
    fault: str = ""
    replication: Replication | None = None
    rebuilding: bool = False
    """Its data is being replaced by this agent."""


class Agent:
    """`drop_connections` breaks the proxy's connections when the data under them is replaced."""

    def __init__(
        self,
        around: Surroundings,
        files: AuroraFiles,
        drop_connections: Callable[[], None],
        is_awaited: Callable[[], bool],
    ) -> None:
        self.view = View()
        self._around = around
        self._files = files
        self._drop_connections = drop_connections
        self._is_awaited = is_awaited
        """Does anybody wait for the server to become the writer?"""
        self._server = around.server(around.region, timeout=1.0)
        self._replication_seen = 0.0
        self._running: asyncio.Task[None] | None = None
        """An operation, or the replacement of the lost volume."""
        self._said = ""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._pause())
        finally:
            if self._running is not None:
                self._running.cancel()
                await asyncio.gather(self._running, return_exceptions=True)
            self._server.close()

    def _pause(self) -> float:
        busy = self._around.state.read().operation is not None or self._is_awaited()
        return BUSY_LOOK_SECONDS if busy and self.view.reachable else LOOK_SECONDS

    async def look(self) -> None:
        """See what the server is, and do the next thing that makes it what it should be."""
        try:
            await self._observe()
            state = self._around.state.read()
            if state.operation is not None:
                await self._adopt(state.operation)
            elif self.view.reachable and (self._running is None or self._running.done()):
                await self._conform(state)
            self._said = ""
        except OperationLost:
            pass  # somebody else was faster
        except AuroraError as error:
            self._tell(str(error))

    async def _observe(self) -> None:
        call, view = self._around.call, self.view
        try:
            view = replace(view, read_only=await call(self._server.read_only), reachable=True,
                           fault="")
            if time.monotonic() - self._replication_seen > _REPLICATION_LOOK_SECONDS:
                view = replace(view, replication=await call(self._server.replication))
                self._replication_seen = time.monotonic()
        except SqlFailed as error:
            view = replace(view, reachable=False, fault=str(error))
        self.view = replace(view, rebuilding=self.view.rebuilding)

    # ---- operations

    async def _adopt(self, operation: Operation) -> None:
        """Run an operation that was asked of this region, or whose process is gone."""
        around = self._around
        if self._running is not None and not self._running.done():
            return
        if operation.runner != around.region and around.clock() <= operation.lease:
            return
        claimed = await around.call(around.state.claim, operation, around.region)
        if claimed.step is not Step.PENDING:
            around.on_event({"kind": "operation_resumed", "step": claimed.step.value,
                             "operation": claimed.kind.value, "to": claimed.target})
        self._start(operations.run(around, claimed))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except AuroraError as error:
                self._tell(str(error))

        self._running = asyncio.get_running_loop().create_task(guarded())

    # ---- roles

    async def _conform(self, state: GlobalState) -> None:
        region = self._around.region
        if state.writer == region:
            if self.view.read_only:
                await self._around.call(self._take_writes, state)
            return
        if self._around.is_cut():
            return
        resync = state.resync_of(region)
        replication = self.view.replication
        if resync is not None:
            self._start(self._resync(resync))
        elif replication is not None and replication.diverged:
            await self._around.call(self._mark_diverged, replication.error)
        elif self.view.read_only is False or not self._follows(replication):
            await self._around.call(self._follow, state)
            self._replication_seen = 0.0

    def _follows(self, replication: Replication | None) -> bool:
        """Set up and at least trying: a source that is away is no reason to start again."""
        if replication is None:
            return True  # not looked at yet
        link = self._around.link(self._around.region)
        return replication.source == link and replication.io_active and replication.sql_running

    def _take_writes(self, seen: GlobalState) -> None:
        with self._around.state.lock() as state:  # no operation can begin meanwhile
            if state == seen:
                self._server.promote()

    def _follow(self, seen: GlobalState) -> None:
        with self._around.state.lock() as state:
            if state == seen:
                around = self._around
                self._server.follow(around.link(around.region), around.replication)

    def _mark_diverged(self, reason: str) -> None:
        around = self._around
        around.state.update(
            lambda s: s if s.operation else s.with_resync(around.region, around.clock())
        )
        around.on_event({"kind": "replica_diverged", "region": around.region, "reason": reason})

    # ---- the lost volume

    async def _resync(self, resync: Resync) -> None:
        around = self._around
        self.view = replace(self.view, rebuilding=True)
        source = around.server(around.layout.other(around.region), timeout=_COPY_SECONDS)
        target = around.server(around.region, timeout=_COPY_SECONDS, logged=False)
        try:
            await around.call(target.demote)
            self._drop_connections()
            await self._keep_snapshot(resync)
            self._event(240, "Resynchronization of the cluster started")
            await around.call(reseed, target, source, self._files.data(around.region))
            await around.call(target.follow, around.link(around.region), around.replication)
            await self._connected()
            await around.call(around.state.update, lambda s: s.without_resync(around.region))
            self._event(241, "Resynchronization of the cluster finished")
        except AuroraError:
            await asyncio.sleep(_RETRY_SECONDS)
            raise
        finally:
            source.close()
            target.close()
            self._replication_seen = 0.0
            self.view = replace(self.view, rebuilding=False)

    async def _keep_snapshot(self, resync: Resync) -> None:
        around = self._around
        cluster = around.layout.clusters[around.region].identifier
        identifier = snapshot_identifier(cluster, resync.since)
        if any(s.identifier == identifier for s in around.state.read().snapshots):
            return  # the volume may already be half replaced: keep what was saved before
        folder = identifier.removeprefix("rds:")
        snapshot = Snapshot(
            identifier, around.region, folder, resync.since, around.clock()
        )
        await around.call(take_snapshot, self._server, self._files.snapshots, snapshot)
        await around.call(
            around.state.update, lambda s: replace(s, snapshots=(*s.snapshots, snapshot))
        )
        around.on_event({"kind": "snapshot_kept", "identifier": identifier,
                         "folder": str(self._files.snapshots / folder)})

    async def _connected(self) -> None:
        """Until the new volume has everything that the writer had."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        while time.monotonic() < deadline:
            replication = await self._around.call(self._server.replication)
            if replication.running and replication.seconds_behind is not None:
                return
            if replication.diverged:
                raise SqlFailed(f"the new replica in {self._around.region}: {replication.error}")
            await asyncio.sleep(0.05)
        raise SqlFailed(f"the new replica in {self._around.region} does not connect")

    # ---- telling

    def _event(self, number: int, message: str) -> None:
        self._around.on_event({"kind": "rds_event", "event_id": f"RDS-EVENT-{number:04}",
                               "cluster": self._around.region, "message": message})

    def _tell(self, fault: str) -> None:
        """A fault once, not ten times a second."""
        if fault != self._said:
            self._said = fault
            with contextlib.suppress(ValueError):  # the event log is closed: shutting down
                self._around.on_event({"kind": "aurora_fault", "message": fault})
