"""`GlobalDatabase`: the region process's part of the global database.

    proxy      read/write and read-only endpoint of RDS Proxy        ports 3316 and 3317
    link       the way to the other region's server                  port 3307
    api        RDS and Secrets Manager                                port 8445
    agent      keeps the region's server (port 3306, a process of its own) in its role

Both regions' processes share `aurora.json` (see `lab.aurora.state`). All SQL and all files are
worked on in a few threads of this part; the event loop only moves bytes.

Downside: one server stands for all instances of a cluster, so a cluster has no failover inside the
region, and its read-only endpoint does not refuse writes while the region is the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.aurora import secretsmanager
from lab.aurora.accounts import AccountsFile, new_password
from lab.aurora.agent import Agent
from lab.aurora.api import Api
from lab.aurora.errors import ApiError, AuroraError
from lab.aurora.files import AuroraFiles
from lab.aurora.layout import (
    API_PORT,
    LINK_PORT,
    READER_PORT,
    SERVER_PORT,
    WRITER_PORT,
    read_layout,
)
from lab.aurora.link import Link, LinkFault, LinkFaults
from lab.aurora.operation import Event, Surroundings
from lab.aurora.proxy import Endpoint, Target
from lab.aurora.rds import RdsApi
from lab.aurora.server import process_name
from lab.aurora.state import StateFile
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import Settings

START_SECONDS = 10.0
"""How long `start` waits for the region's server to be in its role."""


class GlobalDatabase:
    """One region's part. `lab.aurora.prepare` must have run, in whatever process."""

    def __init__(
        self,
        region: str,
        deployment: Deployment,
        settings: Settings,
        paths: LabPaths,
        *,
        on_event: Callable[[Event], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        files = AuroraFiles(paths)
        self._region = region
        self._settings = settings
        self._layout = read_layout(deployment, settings)
        self._cluster = self._layout.clusters[region]
        self._accounts = AccountsFile(files.accounts)
        self._state = StateFile(files.state, self._layout.seed, clock)
        self._faults = LinkFaults(files.links, region, settings.profile.replication_delay)
        self._pool = ThreadPoolExecutor(6, thread_name_prefix=process_name(region))
        accounts = self._accounts.read()
        self._around = Surroundings(
            region=region,
            layout=self._layout,
            state=self._state,
            admin=accounts.admin,
            replication=accounts.replication,
            switchover_delay=lambda: settings.profile.switchover_delay,
            is_cut=lambda: self._faults.cut,
            on_event=on_event,
            call=self._call,
            clock=clock,
        )
        other = self._layout.clusters[self._layout.other(region)]
        self._link = Link(self._faults, lambda: (other.address, SERVER_PORT))
        server = (self._cluster.address, SERVER_PORT)
        self._writer = Endpoint(True, server, self._target, self._cluster.borrow_timeout)
        self._reader = Endpoint(False, server, self._target, self._cluster.borrow_timeout)
        self._agent = Agent(self._around, files, self._drop, lambda: self._writer.waiting > 0)
        self._rds = RdsApi(
            region,
            self._layout,
            self._state,
            lambda: self._agent.view,
            clock,
        )
        self._api = Api(region, self.rds, self._secret)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen, and wait until the region's server is in its role, START_SECONDS at most.

        A server that does not come up is no error: the region is degraded, and `status` says why.
        Raises OSError if an address is taken.
        """
        loop = asyncio.get_running_loop()
        self._faults.put(LinkFault())
        address = self._cluster.address
        await self._link.start(address, LINK_PORT)
        await self._writer.start(address, WRITER_PORT)
        await self._reader.start(address, READER_PORT)
        await self._api.start(address, API_PORT)
        self._tasks = [
            loop.create_task(self._agent.run()),
            loop.create_task(self._watch_link()),
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while not self._in_role():  # noqa: ASYNC110 - known only by looking
                    await asyncio.sleep(0.02)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._api.close()
        await self._writer.close()
        await self._reader.close()
        await self._link.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- what others ask

    async def rds(self, params: Mapping[str, str]) -> Mapping[str, Any]:
        """The members of an RDS action's result. Raises ApiError."""
        answer: Mapping[str, Any] = await self._call(self._rds.answer, params)
        return answer

    async def get_secret_value(self, secret_id: str) -> dict[str, Any]:
        """Raises ApiError (ResourceNotFoundException, ValidationException)."""
        return await self._secret({"SecretId": secret_id})

    def status(self) -> dict[str, Any]:
        state, view = self._state.read(), self._agent.view
        replication = view.replication if state.writer != self._region else None
        operation = state.operation
        return {
            "region": self._region,
            "role": "writer" if state.writer == self._region else "replica",
            "read_only": view.read_only,
            "reachable": view.reachable,
            "fault": view.fault,
            "rebuilding": view.rebuilding,
            "pending_resync": state.resync_of(self._region) is not None,
            "replication": None if replication is None else {
                "running": replication.running,
                "seconds_behind": replication.seconds_behind,
                "error": replication.error,
            },
            "link": {"cut": self._faults.cut, "delay_seconds": self._faults.delay,
                     "connections": self._link.connections},
            "proxy": {
                name: {"connections": e.connections, "waiting": e.waiting, **e.counts}
                for name, e in (("writer", self._writer), ("reader", self._reader))
            },
            "operation": None if operation is None else {
                "kind": operation.kind.value, "from": operation.source, "to": operation.target,
                "step": operation.step.value, "problem": operation.problem,
            },
            "last_operation": state.last,
            "snapshots": [s.identifier for s in state.snapshots if s.region == self._region],
        }

    # ---- faults

    def set_replication(
        self, delay_seconds: float | None = None, cut: bool | None = None
    ) -> None:
        """Change what is given: the delay each way (for both links, unless the other region was
        told its own) and whether the regions are cut off from each other."""
        own = self._faults.own
        self._faults.put(
            LinkFault(
                own.delay_seconds if delay_seconds is None else delay_seconds,
                own.cut if cut is None else cut,
            )
        )
        self._link.enforce()

    def clear_replication(self) -> None:
        """Back to the profile's delay, and whole."""
        self._faults.put(LinkFault())

    def set_borrow_timeout(self, seconds: float) -> None:
        """ConnectionBorrowTimeout of both endpoints, for connections that come from now on."""
        self._writer.borrow_timeout = self._reader.borrow_timeout = seconds

    async def rotate_password(self, secret_id: str) -> None:
        """Give a secret's user a new password, as a rotation does. In the writer's region only.

        Raises ApiError (no such secret), SqlFailed (this region's server takes no writes).
        """
        await self._call(self._rotate, secret_id)

    def _rotate(self, secret_id: str) -> None:
        secret = secretsmanager.find_secret(self._layout, self._region, secret_id)
        password = new_password(secret)
        login = self._accounts.read().values[secret.name].login
        server = self._around.server(self._region)
        try:
            if server.read_only():  # the lab's account would be let through
                raise AuroraError(f"{self._region} is not the writer")
            server.set_password(type(login)(login.username, password))
        finally:
            server.close()
        self._accounts.replace_password(secret, password)

    # ---- inside

    async def _call(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def _secret(self, request: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self._call(
            secretsmanager.get_secret_value, self._layout, self._accounts, self._region, request
        )
        return answer

    def _drop(self) -> None:
        self._writer.drop()
        self._reader.drop()

    def _target(self) -> Target:
        state, view = self._state.read(), self._agent.view
        operation = state.operation
        if operation is None:
            becomes_writer = state.writer == self._region
        else:
            becomes_writer = operation.target == self._region
        return Target(view.read_only, becomes_writer, view.rebuilding,
                      len(self._cluster.instances))

    def _in_role(self) -> bool:
        view, state = self._agent.view, self._state.read()
        if not view.reachable or state.operation is not None:
            return False
        if state.writer == self._region:
            return view.read_only is False
        return view.replication is not None and view.replication.running

    async def _watch_link(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self._link.enforce()


__all__ = ["ApiError", "GlobalDatabase"]
