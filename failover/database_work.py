"""What is done to one database: stop its writes, make another region the writer, open the fence.

Every method sets a wanted state and looks at the truth before and after, so it may be called again
after any interruption. Between `drain` and `open_fence` nobody can write, which is the safe state:
whatever cannot be known ends there, with the command to go on.

`lift` is always safe, also if a switchover begins after all: writes taken until the demotion are
replicated by it, and the region that is promoted finds a fence that is not its own. Lifting takes
an epoch of its own, because a fence that was closed is never opened again in the same epoch; so a
delayed request cannot undo what came after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from failover.database import DRAINING, Fence, GlobalCluster
from failover.database_plan import DatabasePlan, Mode, next_fence, other_operation
from failover.errors import (
    DatabaseError,
    FailoverError,
    FenceRefusal,
    PreconditionError,
)
from failover.ports import EndpointFailed, Operator, Rds
from failover.recovery import Database, Service
from failover.steps import Run
from failover.together import TooLate, bounded

DRAIN_TIMEOUT, DRAIN_SECONDS = 8.0, 14.0
"""Seconds for one attempt to stop writes (the service waits 5 for those in flight), and for all."""
START_SECONDS = 10.0
"""Seconds for getting RDS to begin."""
DESCRIBE_TIMEOUT = 1.5
"""Seconds for one region's answer on how far RDS is."""
GONE_SECONDS = 5.0
"""Seconds without an operation after which one that RDS had accepted counts as cancelled."""
RETRY_SECONDS = 5.0
"""Seconds after which a failover that RDS refused because a switchover hangs is asked for again."""
OPEN_TIMEOUT, OPEN_SECONDS = 5.0, 90.0
"""Seconds for one attempt to open the fence, and for all: a proxy may need a while to see its new
writer."""
LIFT_SECONDS = 10.0
OLD_REGION_SECONDS = 1.5
"""Seconds given to stopping writes in a region that is being given up."""


def poll_pause(elapsed: float) -> float:
    """Seconds until RDS is asked again: writes wait for the answer, and the API has quotas."""
    for until, pause in ((2, 0.03), (60, 0.1)):
        if elapsed < until:
            return pause
    return 0.2


@dataclass(slots=True)
class Work:
    """One database's move, as the steps share it."""

    service: Service
    database: Database
    target: str
    mode: Mode
    rds: Rds
    operator: Operator
    writer: str | None
    """The region that RDS calls the writer, as seen last."""
    cluster: GlobalCluster | None = None
    fences: dict[str, Fence] = field(default_factory=dict)
    """region → as seen last."""
    stopped: bool = False
    """Writes are stopped and not open anywhere, as far as this run knows."""
    old_region_answers: bool = False
    """It could be told to stop writes."""
    clock: Callable[[], float] = time.monotonic

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def target_arn(self) -> str:
        return self.database.clusters[self.target]

    def fence(self) -> Fence | None:
        return max(self.fences.values(), key=lambda fence: fence.age, default=None)

    def is_promoted(self) -> bool:
        return self.writer == self.target

    def is_moving(self) -> bool:
        """Is RDS making the target the writer?"""
        operation = self.cluster.operation if self.cluster else None
        return operation is not None and operation.target_arn == self.target_arn

    def commands(self) -> str:
        """How to go on, and how to give up."""
        loss = " --allow-data-loss" if self.mode is Mode.UNPLANNED else ""
        again = f"failover move {self.name} --to {self.target}{loss}"
        if self.mode is Mode.UNPLANNED or self.writer in (None, self.target):
            return f"to go on, run: {again}"
        return f"to go on, run: {again}; to give up: failover move {self.name} --to {self.writer}"

    # ---- looking

    def note_cluster(self, cluster: GlobalCluster) -> None:
        self.cluster = cluster
        self.writer = cluster.writer(self.database) or self.writer

    def note_fences(self, fences: dict[str, Fence]) -> None:
        self.fences.update(fences)
        newest = self.fence()
        if newest is not None:
            self.stopped = newest.state == DRAINING

    def describe(self) -> GlobalCluster:
        """How RDS sees the global cluster; the target's region is asked first.

        Raises EndpointFailed if no region tells, RdsRefusal and the like at once.
        """
        causes = []
        for region in self.regions():
            try:
                ask = partial(self.rds.global_cluster, region, self.database.global_cluster)
                cluster = bounded(ask, DESCRIBE_TIMEOUT)
            except (EndpointFailed, TooLate) as failure:
                causes.append(f"{region}: {failure}")
            else:
                self.note_cluster(cluster)
                return cluster
        raise EndpointFailed("; ".join(causes))

    def regions(self) -> list[str]:
        """The target first: the other may be the one that is gone."""
        return sorted(self.database.clusters, key=lambda region: region != self.target)

    def _stop_if_other(self, cluster: GlobalCluster) -> None:
        other = other_operation(cluster, self.database, self.target)
        if other is not None:
            raise PreconditionError(f"{self.name}: {other}", self._if_stopped())

    def _if_stopped(self) -> list[str]:
        return [f"writes are stopped; {self.commands()}"] if self.stopped else []

    # ---- the fence of the writer

    def drain(self, run: Run) -> None:
        """No write is in flight and none is taken when this returns."""
        fence, region = self.fence(), self.writer
        assert fence is not None
        assert region is not None
        wanted = Fence(fence.epoch, region, DRAINING)
        doubtful = False
        end = self.clock() + DRAIN_SECONDS
        pause = 0.05
        while True:
            self.stopped = True
            run.changed.add(self.name)
            try:
                self._put(region, wanted, DRAIN_TIMEOUT)
                return
            except EndpointFailed as failure:
                doubtful = doubtful or failure.ambiguous
                cause = failure.cause
            except FailoverError as error:
                # A refusal says that this attempt did nothing; one before it may have.
                self._refused(error)
                if not doubtful:
                    self.stopped = False
                    run.changed.discard(self.name)
                    raise
                raise self._given_up(run, str(error)) from error
            if self.clock() + pause >= end:
                break
            run.sleep(pause)
            pause = min(pause * 2, 1.0)
        if doubtful:
            raise self._given_up(run, f"writes could not be stopped in {region}: {cause}")
        self.stopped = False
        run.changed.discard(self.name)
        raise PreconditionError(f"{self.name}: writes could not be stopped in {region}: {cause}")

    def drain_old_region(self, run: Run) -> None:
        """Best effort, bounded, and never in the way: that region is being given up."""
        fence, region = self.fence(), self.writer
        if fence is None or region is None:
            run.events.emit(
                "database.not_drained", f"{self.name}: the fence is not known; not asking {region}"
            )
            return
        wanted = Fence(self.fences.get(region, fence).epoch, region, DRAINING)
        put = self.operator.set_fence
        try:
            stored = bounded(
                lambda: put(self.service, region, wanted, OLD_REGION_SECONDS), OLD_REGION_SECONDS
            )
        except (EndpointFailed, TooLate, FailoverError) as error:
            self._refused(error)
            why = str(error).splitlines()[0]
            run.events.emit(
                "database.not_drained",
                f"{self.name}: {region} could not be told to stop writes ({why}); going on",
                service=self.name,
                region=region,
            )
        else:
            self.fences[region] = stored
            self.stopped = self.old_region_answers = True
            run.changed.add(self.name)
            run.events.emit(
                "database.drained",
                f"{self.name}: writes are stopped in {region}",
                service=self.name,
                region=region,
                epoch=wanted.epoch,
            )

    def lift(self, run: Run) -> str:
        """Opens the fence again in the region that is still the writer; what came of it."""
        region = self.writer
        assert region is not None
        wanted = next_fence(self.fences.values(), region)
        end = self.clock() + LIFT_SECONDS
        pause = 0.05
        while True:
            try:
                self._put(region, wanted, OPEN_TIMEOUT)
            except FenceRefusal as refusal:
                self._refused(refusal)
                cause = str(refusal)
                wanted = next_fence(self.fences.values(), region)
            except (EndpointFailed, FailoverError) as error:
                cause = str(error)
            else:
                break
            if self.clock() + pause >= end:
                return (
                    f"writes are still stopped and could not be opened in {region} ({cause}); "
                    f"to open them, run: failover move {self.name} --to {region}"
                )
            run.sleep(pause)
            pause = min(pause * 2, 1.0)
        self.stopped = False
        run.changed.discard(self.name)
        text = f"writes are open again in {region} (epoch {wanted.epoch})"
        run.events.emit("database.drain_lifted", f"{self.name}: {text}", service=self.name)
        return text

    def _given_up(self, run: Run, why: str) -> DatabaseError:
        return DatabaseError(f"{self.name}: {why}; {self.lift(run)}")

    def _put(self, region: str, wanted: Fence, timeout: float) -> None:
        stored = self.operator.set_fence(self.service, region, wanted, timeout)
        self.fences[region] = stored

    def _refused(self, error: Exception) -> None:
        """A refusal of the fence tells what the fence is."""
        if isinstance(error, FenceRefusal) and error.epoch:
            now = Fence(error.epoch, error.active_region, error.state)
            self.fences[error.active_region] = now

    # ---- the writer

    def start(self, run: Run) -> None:
        """RDS works on making the target the writer, or has done so, when this returns."""
        if self.is_promoted() or (self.is_moving() and not self._hangs()):
            return
        end = self.clock() + START_SECONDS
        pause = 0.1
        doubtful = False
        while True:
            try:
                self._ask()
            except EndpointFailed as failure:
                cause: FailoverError | EndpointFailed = failure
                doubtful = doubtful or failure.ambiguous
            except FailoverError as error:
                if self._goes_on():
                    return
                raise self._not_started(run, error, doubtful) from error
            else:
                run.changed.add(self.name)
                run.events.emit(
                    "database.accepted",
                    f"{self.name}: RDS has accepted the {self.mode.value} to {self.target}",
                    service=self.name,
                )
                return
            if doubtful and self._goes_on():
                return
            if self.clock() + pause >= end:
                raise self._not_started(run, cause, doubtful)
            run.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _ask(self) -> None:
        """One call: a switchover in the writer's region, a failover in the target's."""
        name = self.database.global_cluster
        if self.mode is Mode.UNPLANNED:
            self.rds.fail_over(self.target, name, self.target_arn)
            return
        assert self.writer is not None
        self.rds.switch_over(self.writer, name, self.target_arn)

    def _hangs(self) -> bool:
        """Must a switchover under way be overtaken, because its source is being given up?"""
        operation = self.cluster.operation if self.cluster else None
        return self.mode is Mode.UNPLANNED and operation is not None and not operation.data_loss

    def _goes_on(self) -> bool:
        """Is RDS at it after all, or through?"""
        try:
            self.describe()
        except (EndpointFailed, FailoverError):
            return False
        return self.is_moving() or self.is_promoted()

    def _not_started(
        self, run: Run, cause: FailoverError | EndpointFailed, doubtful: bool
    ) -> FailoverError:
        """What to report, after writes are open again wherever that is known to be right."""
        if doubtful and not self._is_idle():
            run.changed.add(self.name)
            return DatabaseError(
                f"{self.name}: it is not known whether RDS has begun ({cause}); "
                f"{self.commands()}" + ("; writes are stopped meanwhile" if self.stopped else "")
            )
        reasons = [self.lift(run)] if self.stopped else []
        if isinstance(cause, PreconditionError | EndpointFailed):
            return PreconditionError(f"{self.name}: no {self.mode.value}: {cause}", reasons)
        if not reasons:
            assert isinstance(cause, FailoverError)
            return cause
        return DatabaseError(f"{self.name}: no {self.mode.value}: {cause}; {reasons[0]}")

    def _is_idle(self) -> bool:
        """Does RDS say that nothing is under way?"""
        try:
            return self.describe().operation is None and not self.is_promoted()
        except (EndpointFailed, FailoverError):
            return False

    def await_writer(self, run: Run, wait: float) -> None:
        """The target is the writer when this returns; bounded by `wait` seconds."""
        started = self.clock()
        idle_since: float | None = None
        asked = started
        last = ""
        while not self.is_promoted():
            now = self.clock()
            try:
                cluster = self.describe()
            except (EndpointFailed, FailoverError) as failure:
                last = f"; last answer: {failure}"
            else:
                self._stop_if_other(cluster)
                if self.is_promoted():
                    break
                idle_since = None if self.is_moving() else (idle_since or now)
                if idle_since is not None and now - idle_since >= GONE_SECONDS:
                    raise self._cancelled(run)
                if self._hangs() and now >= asked + RETRY_SECONDS:
                    asked = now
                    self._ask_again()
            if now - started >= wait:
                raise DatabaseError(
                    f"{self.name}: RDS has not made {self.target} the writer within {wait:g} s"
                    f"{last}; writes wait for it; {self.commands()}"
                )
            run.sleep(poll_pause(now - started))

    def _ask_again(self) -> None:
        """A refusal changes nothing: RDS is still at the switchover."""
        try:
            self._ask()
        except (EndpointFailed, FailoverError):
            return

    def _cancelled(self, run: Run) -> FailoverError:
        text = f"{self.name}: RDS has not done the {self.mode.value}; {self.writer} is the writer"
        if self.stopped:
            text += f"; {self.lift(run)}"
        return DatabaseError(text)

    # ---- the fence of the target

    def open_fence(self, run: Run) -> Fence:
        """The target has taken a write, and takes everybody's, when this returns."""
        end = self.clock() + OPEN_SECONDS
        pause, moved_on = 0.02, False
        wanted = self._wanted()
        while True:
            try:
                if wanted is None:
                    read = self.operator.fence(self.service, self.target, OPEN_TIMEOUT)
                    self.fences[self.target] = read
                    wanted = self._wanted()
                assert wanted is not None
                self._put(self.target, wanted, OPEN_TIMEOUT)
            except EndpointFailed as failure:
                cause = failure.cause
            except FenceRefusal as refusal:
                # The database of the target is the writer, so what it says is the newest.
                self._refused(refusal)
                if moved_on or not refusal.epoch:
                    raise
                moved_on, wanted = True, self._wanted()
                continue
            else:
                self.stopped = False
                run.changed.add(self.name)
                return wanted
            if self.clock() + pause >= end:
                raise DatabaseError(
                    f"{self.name}: {self.target} is the writer, but takes no write: {cause}; "
                    f"nobody can write meanwhile; {self.commands()}"
                )
            run.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def _wanted(self) -> Fence | None:
        return next_fence(self.fences.values(), self.target) if self.fences else None


def work_for(plan: DatabasePlan, service: Service, rds: Rds, operator: Operator) -> Work:
    """The work of `plan`; the database is known to be complete in recovery.json."""
    assert service.database is not None
    work = Work(service, service.database, plan.target, plan.mode, rds, operator, plan.writer)
    if plan.fence is not None:
        work.note_fences({plan.fence.active_region: plan.fence})
    return work


def stopped(works: Iterable[Work]) -> list[str]:
    """A line for each database that an interruption has left without a region that writes."""
    return [
        f"{work.name}: writes are stopped, or about to be; {work.commands()}"
        for work in works
        if work.stopped
    ]
