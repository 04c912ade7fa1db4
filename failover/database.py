"""A service's database as it is seen: global cluster, clusters, proxies, write fence, lag.

Values only, and what follows from them without looking again. What may be done with a database is
judged in `database_plan`, how it is looked at is in `observe_database`.

The truth of a move is in two places that need no tool to be alive: RDS says which region is the
writer, the fence row in the database says which region may write. Every replica has a copy of the
fence that may be old, never wrong: (epoch, state) only moves forward, so the greatest copy is the
newest. The downside is that a copy of an isolated old primary cannot be told from one that is
merely late, and does not need to be: its epoch is lower either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from failover.recovery import Database

OPEN, DRAINING = "open", "draining"
CONNECTED = "connected"
AVAILABLE = "available"
PROXY_AVAILABLE = "AVAILABLE"


@dataclass(frozen=True, slots=True)
class Fence:
    """The row that every write reads in its own transaction."""

    epoch: int
    active_region: str
    state: str

    @property
    def age(self) -> tuple[int, bool]:
        """Greater is newer: within an epoch the fence only closes."""
        return self.epoch, self.state == DRAINING

    def is_open_in(self, region: str) -> bool:
        return self.active_region == region and self.state == OPEN

    def describe(self) -> str:
        return f"epoch {self.epoch}, {self.state} in {self.active_region}"


@dataclass(frozen=True, slots=True)
class Member:
    arn: str
    is_writer: bool
    synchronization: str
    """"connected" or "pending-resync" (API reference, GlobalClusterMember)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A switchover or failover that is under way (API reference, FailoverState)."""

    status: str
    source_arn: str
    target_arn: str
    data_loss: bool


@dataclass(frozen=True, slots=True)
class GlobalCluster:
    status: str
    members: tuple[Member, ...]
    operation: Operation | None = None

    def writer(self, database: Database) -> str | None:
        """The region of the writing member."""
        return next((database.region_of(m.arn) for m in self.members if m.is_writer), None)

    def member(self, arn: str | None) -> Member | None:
        return next((m for m in self.members if m.arn == arn), None)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One region's cluster."""

    engine_version: str
    instances: int
    status: str = AVAILABLE


@dataclass(frozen=True, slots=True)
class ProxyTarget:
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Depth:
    """What a region says it can do with its database now."""

    writable: bool
    readable: bool
    fence: Fence | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last one that has arrived in a region; all committed before it has arrived too."""

    region: str
    at: str
    age_ms: float


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a region's copy is behind, in milliseconds."""

    ms: float | None
    """Aurora's own figure; where it has none, the age of a heartbeat made for the question."""
    heartbeat: Heartbeat | None = None
    more_than_ms: float | None = None
    """A heartbeat was made so long ago and has not arrived."""

    def describe(self) -> str:
        if self.ms is not None:
            return f"{self.ms:.0f} ms"
        known = f"more than {self.more_than_ms:.0f} ms" if self.more_than_ms else "not known"
        if self.heartbeat is None:
            return known
        beat = self.heartbeat
        return f"{known}; the last heartbeat that arrived was made in {beat.region} at {beat.at}"


@dataclass(frozen=True, slots=True)
class DatabaseLook:
    """All that was seen of one database. What did not answer in time is missing."""

    cluster: GlobalCluster | None = None
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    """region → its cluster."""
    targets: Mapping[str, tuple[ProxyTarget, ...]] = field(default_factory=dict)
    """region → the instances behind its proxy."""
    depths: Mapping[str, Depth] = field(default_factory=dict)
    """region → what it says of itself."""
    lags: Mapping[str, Lag] = field(default_factory=dict)
    """region → how far behind; the writer's region has none."""
    snapshots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """region → kept copies of volumes that it lost in failovers, the newest first."""
    causes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(what, region) → why it was not seen; what: global, cluster, targets, snapshots, depth,
    lag."""

    def fences(self) -> dict[str, Fence]:
        """region → the fence as its database has it."""
        return {region: d.fence for region, d in self.depths.items() if d.fence is not None}

    def newest_fence(self) -> Fence | None:
        return max(self.fences().values(), key=lambda fence: fence.age, default=None)

    def cause(self, what: str, region: str) -> str:
        other = self.causes.get(("depth", region), "no answer in time") if what == "lag" else None
        return self.causes.get((what, region), other or "no answer in time")


def available(targets: tuple[ProxyTarget, ...]) -> int:
    return sum(target.state == PROXY_AVAILABLE for target in targets)
