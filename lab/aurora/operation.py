"""Switchover and failover of the global database, step by step.

    switchover   wait for the target to be in step · demote the source · (switchover_delay) · wait
                 for the target to have all · PROMOTING: promote the target · it is the writer ·
                 the source becomes its replica. Loses nothing, or is cancelled before PROMOTING.
    failover     fence the source if it can be reached in FENCE_SECONDS · stop receiving · apply
                 what has arrived · PROMOTING: promote · it is the writer; the source's volume is
                 to be replaced (see `lab.aurora.resync`). Loses what had not arrived.

Each step sets a wanted state and is written down before it begins, so another process can take an
operation over at any point and repeat the step it was in: before PROMOTING from the beginning, from
there on only forward.

Downside: past PROMOTING an operation waits for its target for as long as it takes; if that region
has died in this very moment, only `FailoverGlobalCluster` with `AllowDataLoss` ends the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lab.aurora.accounts import Login
from lab.aurora.errors import AuroraError, OperationLost, SqlFailed
from lab.aurora.layout import LINK_PORT, SERVER_PORT, Layout
from lab.aurora.sql import Server
from lab.aurora.state import GlobalState, Kind, Operation, StateFile, Step

SYNC_SECONDS = 10.0
"""How far behind a switchover's target may be, in the time that it takes to catch up."""
APPLY_SECONDS = 30.0
FENCE_SECONDS = 1.0
_RENEW_SECONDS = 1.0
_RETRY_SECONDS = 0.2

Event = dict[str, Any]


class Call(Protocol):
    """Runs a blocking function in a worker thread."""

    def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Awaitable[Any]: ...


class _Cancelled(AuroraError):
    """The operation cannot be done; everything goes back to what it was."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an operation works with."""

    region: str
    layout: Layout
    state: StateFile
    admin: Login
    replication: Login
    switchover_delay: Callable[[], float]
    is_cut: Callable[[], bool]
    on_event: Callable[[Event], None]
    call: Call
    clock: Callable[[], float]

    def server(self, region: str, timeout: float = 2.0, logged: bool = True) -> Server:
        """`logged`: what is written there goes into the binary log, and to the other region."""
        address = self.layout.clusters[region].address
        return Server(address, SERVER_PORT, self.admin, timeout, logged)

    def link(self, region: str) -> tuple[str, int]:
        return self.layout.clusters[region].address, LINK_PORT

    def event(self, number: int, operation: Operation, message: str) -> None:
        """Tell of a step under the number that RDS has for it (user guide, Event categories)."""
        self.on_event(
            {
                "kind": "rds_event",
                "event_id": f"RDS-EVENT-{number:04}",
                "operation": operation.kind.value,
                "from": operation.source,
                "to": operation.target,
                "message": message,
            }
        )


async def run(around: Surroundings, operation: Operation) -> None:
    """Do an operation that this process holds, to its end. Raises OperationLost, StateError."""
    run_one = _Run(around, operation)
    work = asyncio.ensure_future(run_one.work())
    renewal = asyncio.ensure_future(run_one.renew())
    try:
        await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        else:
            renewal.result()
    finally:
        for task in (work, renewal):
            task.cancel()
        for task in (work, renewal):
            with contextlib.suppress(asyncio.CancelledError, AuroraError):
                await task
        run_one.close()


class _Run:
    """One process's turn at one operation."""

    def __init__(self, around: Surroundings, operation: Operation) -> None:
        self._around = around
        self._operation = operation
        self._source = around.server(operation.source)
        self._target = around.server(operation.target)

    def close(self) -> None:
        self._source.close()
        self._target.close()

    async def renew(self) -> None:
        """Keep the lease until it is lost (OperationLost)."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            await self._around.call(
                self._around.state.advance, self._operation, None, self._operation.problem
            )

    async def work(self) -> None:
        operation = self._operation
        prepare = self._synchronise if operation.kind is Kind.SWITCHOVER else self._stop_source
        if operation.step in (Step.PENDING, Step.PREPARING):
            await self._advance(Step.PREPARING)
            try:
                await prepare()
                await self._advance(Step.PROMOTING)
            except (SqlFailed, _Cancelled) as error:
                await self._cancel(str(error))
                return
        if self._operation.step is Step.CANCELLING:
            await self._cancel("resumed while cancelling")
            return
        if self._operation.step is Step.PROMOTING:
            await self._promote()
        await self._finish()

    # ---- before the point of no return

    async def _synchronise(self) -> None:
        """Switchover: the target has everything, and the source takes no more."""
        around, operation = self._around, self._operation
        around.event(181, operation, "Global switchover started")
        position = await around.call(self._source.position)
        if not await around.call(self._target.wait_for, position, SYNC_SECONDS):
            raise _Cancelled("the target does not catch up with the primary")
        position = await around.call(self._source.demote)
        around.event(182, operation, "The old primary takes no more writes")
        await asyncio.sleep(around.switchover_delay())
        around.event(183, operation, "Waiting for data synchronization across cluster members")
        if not await around.call(self._target.wait_for, position, SYNC_SECONDS):
            raise _Cancelled("the target does not get the last writes of the primary")

    async def _stop_source(self) -> None:
        """Failover: the source is fenced if possible, and what has arrived is applied."""
        around = self._around
        await self._fence()
        await around.call(self._target.stop_receiving)
        received = (await around.call(self._target.replication)).received
        if not await around.call(self._target.wait_for, received, APPLY_SECONDS):
            raise _Cancelled("the target does not apply what it has received")

    async def _fence(self) -> None:
        """Best effort (user guide, managed failover: "Aurora attempts to block writes")."""
        around, operation = self._around, self._operation
        source = around.server(operation.source, timeout=FENCE_SECONDS)
        try:
            if around.is_cut():
                raise SqlFailed("the regions are cut off from each other")
            async with asyncio.timeout(FENCE_SECONDS):
                await around.call(source.demote)
        except (SqlFailed, TimeoutError) as error:
            around.event(391, operation, f"Fencing of the old primary timed out: {error}")
        else:
            around.event(390, operation, "Writes are fenced on the old primary")
        finally:
            source.close()

    async def _cancel(self, reason: str) -> None:
        """The source is still the writer; its agent makes it take writes again."""
        around, operation = self._around, self._operation
        await self._advance(Step.CANCELLING)
        word = "cancelled" if operation.kind is Kind.SWITCHOVER else "failed"
        await around.call(
            around.state.finish, operation, lambda s: replace(s, last=f"{word}: {reason}")
        )
        number = 186 if operation.kind is Kind.SWITCHOVER else 239
        around.event(number, operation, f"The {operation.kind} was {word}: {reason}")

    # ---- from the point of no return

    async def _promote(self) -> None:
        around, operation = self._around, self._operation
        while True:
            try:
                await around.call(self._target.promote)
                break
            except SqlFailed as error:
                await self._advance(Step.PROMOTING, problem=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        now = around.clock()

        def promoted(state: GlobalState) -> GlobalState:
            if state.operation is None or state.operation.token != operation.token:
                raise OperationLost("another process has taken the operation over")
            state = replace(
                state,
                writer=operation.target,
                operation=replace(state.operation, step=Step.FINISHING, problem=""),
            )
            if operation.kind is Kind.FAILOVER:
                return state.with_resync(operation.source, now).without_resync(operation.target)
            return state

        state = await around.call(around.state.update, promoted)
        self._operation = state.operation
        if operation.kind is Kind.SWITCHOVER:
            around.event(184, operation, "The new primary takes writes")

    async def _finish(self) -> None:
        around, operation = self._around, self._operation
        if operation.kind is Kind.SWITCHOVER:
            with contextlib.suppress(SqlFailed):  # if it has died meanwhile, its agent does it
                await around.call(
                    self._source.follow, around.link(operation.source), around.replication
                )
        seconds = around.clock() - operation.started
        last = f"{operation.kind} to {operation.target} finished after {seconds:.2f} s"
        await around.call(around.state.finish, operation, lambda s: replace(s, last=last))
        number = 185 if operation.kind is Kind.SWITCHOVER else 238
        around.event(number, operation, last)

    async def _advance(self, step: Step, problem: str = "") -> None:
        self._operation = await self._around.call(
            self._around.state.advance, self._operation, step, problem
        )
