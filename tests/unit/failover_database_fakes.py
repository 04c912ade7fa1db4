"""A global database of two regions in memory, with its fence, RDS and ARC's interlocks.

Every change is checked against what must hold whatever the tool does and wherever it is killed:
never two regions that write, an epoch that only goes forward, one step at a time, and traffic only
where the database writes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from failover_fakes import EAST, REGIONS, WEST, FakeArc, FakeWorld, control

from failover.commands import World
from failover.database import (
    DRAINING,
    OPEN,
    Cluster,
    Depth,
    Fence,
    GlobalCluster,
    Heartbeat,
    Lag,
    Member,
    Operation,
    ProxyTarget,
)
from failover.errors import FenceRefusal, RdsRefusal, SafetyRuleRefusal
from failover.ports import EndpointFailed
from failover.recovery import Endpoint, Recovery, Service

NAME = "todo"


class Killed(Exception):
    """The tool's process ends here."""


def arn(region: str) -> str:
    return f"arn:aws:rds:{region}:111122223333:cluster:{NAME}"


def other(region: str) -> str:
    return WEST if region == EAST else EAST


class InterlockedArc(FakeArc):
    """ARC with the safety rules of a service with a database."""

    model: Model | None = None

    def update_states(self, endpoint: Endpoint, entries: Mapping[str, bool]) -> None:
        assert self.model is not None
        with self.model.changing("update_states"):
            after = {**self.states, **entries}
            self._check(after)
            super().update_states(endpoint, entries)
            if any(f"/{NAME}/" in arn for arn in entries):
                (region,) = [r for r in REGIONS if self.states[control(NAME, r)]]
                assert region in self.model.writable(), "traffic goes where nobody can write"

    def _check(self, after: Mapping[str, bool]) -> None:
        for kind in ("", "db-"):
            if sum(after[control(NAME, r, kind)] for r in REGIONS) != 1:
                raise SafetyRuleRefusal("not exactly one", f"{NAME}-{kind}at-most-one")
        for region in REGIONS:
            if after[control(NAME, region)] and after[control(NAME, other(region), "db-")]:
                raise SafetyRuleRefusal("interlock", f"{NAME}-interlock-{region}")


@dataclass
class Model:
    """`ports.Rds` and `ports.Operator` over one state. `now` is its clock, moved by `sleep`."""

    arc: FakeArc
    writer: str = EAST
    fences: dict[str, Fence] = field(
        default_factory=lambda: {r: Fence(4, EAST, OPEN) for r in REGIONS}
    )
    operation: Operation | None = None
    due: float = 0.0
    """When the operation ends."""
    switchover_seconds: float = 0.0
    now: float = 0.0

    dead: set[str] = field(default_factory=set)
    """Regions of which nothing answers, and nothing writes."""
    isolated: set[str] = field(default_factory=set)
    """Regions that nobody reaches, but which go on as they were."""
    rogue: set[str] = field(default_factory=set)
    """Old primaries that were never told of their successor."""
    resync: set[str] = field(default_factory=set)
    cut: bool = False
    """Nothing is replicated."""
    versions: dict[str, str] = field(default_factory=lambda: dict.fromkeys(REGIONS, "8.0.3.10.1"))
    instances: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REGIONS, 2))
    targets_of: dict[str, tuple[ProxyTarget, ...]] = field(
        default_factory=lambda: dict.fromkeys(REGIONS, (ProxyTarget("AVAILABLE"),) * 2)
    )
    lag_ms: float | None = 12.0
    status: str = "available"
    refuse: RdsRefusal | None = None
    """What RDS says to every switchover and failover."""
    ignore_start: bool = False
    """RDS accepts an operation and cancels it at once."""
    lose_answers: set[str] = field(default_factory=set)
    """Calls that are done, once each, and never answered."""
    fence_faults: int = 0
    """So many changes of the fence are answered 503."""
    rds_down: set[str] = field(default_factory=set)

    calls: list[str] = field(default_factory=list)
    opened: list[Fence] = field(default_factory=list)
    kill_at: int | None = None
    kill_after: bool = False
    """The call at which the process ends: before its effect, or after."""
    counted: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    preferred: str = ""

    # ---- what must hold

    def writable(self) -> list[str]:
        takers = {self.writer, *self.rogue} - self.dead
        return [r for r in REGIONS if r in takers and self.fences[r].is_open_in(r)]

    def check(self) -> None:
        reached = [r for r in self.writable() if r not in self.rogue]
        assert len(reached) <= 1, f"two regions write: {self.fences}"
        epochs = [fence.epoch for fence in self.opened]
        assert epochs == list(range(5, 5 + len(epochs))), f"epochs {epochs}"

    def check_traffic(self) -> None:
        """Traffic is where the database's control is."""
        (region,) = [r for r in REGIONS if self.arc.states[control(NAME, r)]]
        (database,) = [r for r in REGIONS if self.arc.states[control(NAME, r, "db-")]]
        assert region == database

    def changing(self, name: str) -> _Change:
        return _Change(self, name)

    # ---- time

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds
            self.settle()

    def settle(self) -> None:
        """RDS ends what is due, and replicas catch up."""
        if self.operation is not None and self.now >= self.due:
            self.promote(self.operation)
            self.operation = None
        if not self.cut and self.writer not in self.isolated:
            for region in set(REGIONS) - self.dead - self.isolated - self.resync - self.rogue:
                self.fences[region] = self.fences[self.writer]
        self.check()

    def promote(self, operation: Operation) -> None:
        target = next(r for r in REGIONS if arn(r) == operation.target_arn)
        source = other(target)
        if not operation.data_loss:
            self.fences[target] = self.fences[source]
        elif source in self.dead | self.isolated:
            self.resync.add(source)
            if source in self.isolated:
                self.rogue.add(source)
        self.writer = target
        self.check()

    def restore(self) -> None:
        """Every region is back as a replica."""
        self.dead, self.isolated, self.rogue, self.resync = set(), set(), set(), set()
        self.settle()

    # ---- ports.Rds

    def reach(self, region: str) -> None:
        if region in self.dead | self.isolated:
            raise EndpointFailed("connection refused")

    def reach_rds(self, region: str) -> None:
        self.reach(region)
        if region in self.rds_down:
            raise EndpointFailed("no answer within 5 s", ambiguous=True)

    def global_cluster(self, region: str, identifier: str) -> GlobalCluster:
        with self.changing("global_cluster"):
            self.reach_rds(region)
            self.now += 0.01
            self.settle()
            members = tuple(
                Member(
                    arn(r),
                    r == self.writer,
                    "pending-resync" if r in self.resync else "connected",
                )
                for r in REGIONS
            )
            status = "switching-over" if self.operation else self.status
            return GlobalCluster(status, members, self.operation)

    def cluster(self, region: str, arn: str) -> Cluster:
        self.reach_rds(region)
        return Cluster(self.versions[region], self.instances[region])

    def targets(self, region: str, proxy: str) -> tuple[ProxyTarget, ...]:
        self.reach_rds(region)
        return self.targets_of[region]

    def snapshots(self, region: str, arn: str) -> tuple[str, ...]:
        self.reach_rds(region)
        return ()

    def switch_over(self, region: str, identifier: str, target_arn: str) -> None:
        with self.changing("switch_over"):
            self.reach_rds(region)
            if region != self.writer or self.dead or self.isolated or self.resync:
                raise RdsRefusal("InvalidGlobalClusterStateFault", "not now", region)
            self._begin(region, target_arn, data_loss=False)

    def fail_over(self, region: str, identifier: str, target_arn: str) -> None:
        with self.changing("fail_over"):
            self.reach_rds(region)
            if target_arn != arn(region):
                raise RdsRefusal("InvalidGlobalClusterStateFault", "call the target", region)
            self._begin(region, target_arn, data_loss=True)

    def _begin(self, region: str, target_arn: str, *, data_loss: bool) -> None:
        if self.refuse is not None:
            raise self.refuse
        if self.operation is not None:
            raise RdsRefusal("InvalidGlobalClusterStateFault", "switching-over", region)
        assert target_arn != arn(self.writer), "it is the writer already"
        if self.ignore_start:
            return
        status = "failing-over" if data_loss else "switching-over"
        self.operation = Operation(status, arn(self.writer), target_arn, data_loss)
        self.due = self.now + self.switchover_seconds

    # ---- ports.Operator

    def prefer(self, region: str) -> None:
        self.preferred = region

    def fence(self, service: Service, region: str, timeout: float) -> Fence:
        with self.changing("fence"):
            self.reach(region)
            return self.fences[region]

    def set_fence(self, service: Service, region: str, wanted: Fence, timeout: float) -> Fence:
        with self.changing("set_fence"):
            self.reach(region)
            if self.fence_faults:
                self.fence_faults -= 1
                raise EndpointFailed("HTTP 503: the database is read-only in this region")
            if region != self.writer:
                raise EndpointFailed("HTTP 503: read-only", ambiguous=False)
            now = self.fences[region]
            self._agree(now, wanted, region)
            if wanted != now and wanted.state == OPEN:
                self.opened.append(wanted)
            self.fences[region] = wanted
            self.settle()
            return wanted

    def _agree(self, now: Fence, wanted: Fence, region: str) -> None:
        """The rules of the service: (epoch, state) only moves forward."""
        closed = now.state == DRAINING and wanted.state == OPEN
        same = wanted.epoch == now.epoch and wanted.active_region == now.active_region
        forward = wanted.epoch > now.epoch and wanted.state == OPEN
        if not ((same and not closed) or (forward and wanted.active_region == region)):
            raise FenceRefusal("conflict", now.epoch, now.active_region, now.state)

    def depth(self, service: Service, region: str, timeout: float) -> Depth:
        with self.changing("depth"):
            self.reach(region)
            problems = () if region == self.writer else ("writer: read-only",)
            return Depth(region in self.writable(), True, self.fences[region], problems)

    def lag(self, service: Service, region: str, timeout: float) -> Lag:
        self.reach(region)
        return Lag(self.lag_ms, Heartbeat(self.writer, "2026-01-01T00:00:00Z", 5.0))


class _Change:
    """One call that may be the last: counted from the first change of the fence or by RDS on."""

    STARTS = ("set_fence", "switch_over", "fail_over", "update_states")

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name

    def __enter__(self) -> None:
        self.model.lock.acquire()
        model = self.model
        model.calls.append(self.name)
        if model.counted or self.name in self.STARTS:
            model.counted += 1
        if model.counted == model.kill_at and not model.kill_after:
            model.lock.release()
            raise Killed

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        model = self.model
        try:
            model.check()
            if kind is not AssertionError and model.counted == model.kill_at:
                raise Killed
            if kind is None and self.name in model.lose_answers:
                model.lose_answers.discard(self.name)
                raise EndpointFailed("no answer in time", ambiguous=True)
        finally:
            model.lock.release()


def database_world(known: Recovery, active: str = EAST) -> tuple[FakeWorld, Model]:
    states = {}
    for service in known.services.values():
        maps = [service.routing_controls]
        maps += [service.database.routing_controls] if service.database else []
        for by_region in maps:
            states.update({a: region == active for region, a in by_region.items()})
    arc = InterlockedArc(states)
    model = Model(arc)
    arc.model = model
    return FakeWorld(arc), model


def world_of(world: FakeWorld, model: Model) -> World:
    """The outside for the commands; dead regions answer no probe either."""
    world.dead = model.dead | model.isolated
    return World(
        world.arc,
        world,
        world,
        False,
        lambda _: "",
        world.events,
        rds=model,
        operator=model,
        sleep=model.sleep,
        clock=lambda: model.now,
    )
