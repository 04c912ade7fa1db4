"""What may and must be done with a database, judged from what was seen. Pure.

A planned move (switchover) loses nothing and is refused unless everything it needs has been seen
to be well, with every reason and its numbers at once. An unplanned one (failover that may lose
data) is for a region that is gone, so only what would make it impossible refuses it; the rest are
warnings. That is its downside: it can leave a database in a region that is not well either.

A move that was cut short is recognised by the truth (RDS and the fence), not by a record of ours:
`Phase` says how far it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from failover.database import (
    AVAILABLE,
    CONNECTED,
    DRAINING,
    DatabaseLook,
    Fence,
    GlobalCluster,
    available,
)
from failover.recovery import Database

LAG_LIMIT_MS = 1000
"""The replication lag up to which a planned move begins. RDS waits for the rest while writes are
stopped: "switchover time is directly proportional to the lag" (Aurora user guide)."""
INSTANCES = 2
"""One to write and one to read: without a reader the read-only endpoint of RDS Proxy has nobody to
ask (RDS user guide, "Overview of RDS Proxy endpoints")."""


class Mode(Enum):
    PLANNED = "switchover"
    UNPLANNED = "failover with data loss"


class Phase(Enum):
    """How far a move to the target has come."""

    UNKNOWN = "unknown"
    AWAY = "the writer is elsewhere"
    DRAINED = "writes are stopped, the writer is elsewhere"
    MOVING = "RDS is making the target the writer"
    PROMOTED = "the target is the writer, its fence is not open"
    OPEN = "the target writes"


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """One database's part of a move to `target`."""

    mode: Mode
    phase: Phase
    target: str
    writer: str | None
    fence: Fence | None
    """The newest that was seen."""
    epoch: int
    """That of the fence when the move is done; 0 if no fence was seen."""
    lag: str
    """The target's lag, for people."""
    facts: tuple[str, ...] = ()
    """What the preflight has seen, with numbers."""
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        return self.phase is not Phase.OPEN


def phase_of(look: DatabaseLook, database: Database, target: str) -> Phase:
    """How far a move to `target` has come."""
    cluster = look.cluster
    if cluster is None or cluster.writer(database) is None:
        return Phase.UNKNOWN
    fence = look.newest_fence()
    if cluster.writer(database) == target:
        is_open = fence is not None and fence.is_open_in(target)
        return Phase.OPEN if is_open else Phase.PROMOTED
    if cluster.operation and cluster.operation.target_arn == database.clusters.get(target):
        return Phase.MOVING
    return Phase.DRAINED if fence is not None and fence.state == DRAINING else Phase.AWAY


def next_fence(fences: Iterable[Fence], target: str) -> Fence:
    """The open fence of `target` after all of `fences`; the newest itself if it is that already."""
    newest = max(fences, key=lambda fence: fence.age, default=Fence(0, "", ""))
    if newest.is_open_in(target):
        return newest
    return Fence(newest.epoch + 1, target, "open")


def other_operation(cluster: GlobalCluster, database: Database, target: str) -> str | None:
    """An operation under way towards another cluster than `target`'s, in words."""
    operation = cluster.operation
    if operation is None or operation.target_arn == database.clusters.get(target):
        return None
    towards = database.region_of(operation.target_arn) or operation.target_arn
    kind = "failover" if operation.data_loss else "switchover"
    return (
        f"a {kind} to {towards} is under way in RDS (FailoverState {operation.status}); "
        "wait until it has ended"
    )


def judge(look: DatabaseLook, database: Database, target: str, mode: Mode) -> DatabasePlan:
    """The plan for a database that is to write in `target`."""
    phase = phase_of(look, database, target)
    writer = look.cluster.writer(database) if look.cluster else None
    fence = look.newest_fence()
    facts: tuple[str, ...] = ()
    warnings: list[str] = []
    if look.cluster is None or phase is Phase.UNKNOWN:
        refusals = _unseen(look, database)
    else:
        other = other_operation(look.cluster, database, target)
        refusals = [other] if other else []
        if phase in (Phase.AWAY, Phase.DRAINED):
            found = _preflight(look, database, target, str(writer), phase)
            facts = (*(text for good, text in found if good), *_kept(look))
            if mode is Mode.PLANNED:
                refusals += [text for good, text in found if not good]
            else:
                hopeless, warnings = _unplanned(look, database, target, found)
                refusals += hopeless
        if phase is not Phase.OPEN and mode is Mode.PLANNED and not _seen_fence(look, target):
            text = f"the fence cannot be read in {target}: {look.cause('depth', target)}"
            if text not in refusals:
                refusals.append(text)
    return DatabasePlan(
        mode=mode,
        phase=phase,
        target=target,
        writer=writer,
        fence=fence,
        epoch=next_fence([fence], target).epoch if fence else 0,
        lag=_lag_text(look, target),
        facts=facts,
        refusals=tuple(refusals),
        warnings=tuple(warnings),
    )


def _seen_fence(look: DatabaseLook, region: str) -> bool:
    return region in look.fences()


def _unseen(look: DatabaseLook, database: Database) -> list[str]:
    if look.cluster is not None:
        return ["RDS names no writer among the clusters of recovery.json"]
    causes = [f"{region}: {look.cause('global', region)}" for region in database.clusters]
    return [f"the RDS API tells nothing of {database.global_cluster}: {'; '.join(causes)}"]


LAG = "replication lag"
Finding = tuple[bool, str]
"""(is it as it should be, what was seen)."""


def _preflight(
    look: DatabaseLook, database: Database, target: str, writer: str, phase: Phase
) -> list[Finding]:
    """Everything that a planned move looks at before it stops a write."""
    assert look.cluster is not None
    found = [
        (
            look.cluster.status == AVAILABLE,
            f"global cluster {database.global_cluster} is {look.cluster.status}",
        )
    ]
    found += _synchronization(look.cluster, database)
    found.append(_versions(look, writer, target))
    if phase is Phase.AWAY:
        found.append(_lag(look, target))
    found += [_instances(look, target), _proxy(look, database, target)]
    for region in (writer, target):
        fence = look.fences().get(region)
        found.append(
            (True, f"fence in {region}: {fence.describe()}")
            if fence
            else (False, f"the fence cannot be read in {region}: {look.cause('depth', region)}")
        )
    return found


def _synchronization(cluster: GlobalCluster, database: Database) -> list[Finding]:
    found = []
    for region, arn in database.clusters.items():
        member = cluster.member(arn)
        if member is None:
            found.append((False, f"{region} is no member of the global cluster"))
        elif not member.is_writer:
            found.append(
                (
                    member.synchronization in (CONNECTED, ""),
                    f"replica in {region} is {member.synchronization or 'connected'}",
                )
            )
    return found


def _versions(look: DatabaseLook, writer: str, target: str) -> Finding:
    """Aurora MySQL wants identical patch levels (Aurora user guide, managed switchover)."""
    versions = {}
    for region in (writer, target):
        cluster = look.clusters.get(region)
        if cluster is None:
            cause = look.cause("cluster", region)
            return False, f"the engine version in {region} cannot be read: {cause}"
        versions[region] = cluster.engine_version
    if len(set(versions.values())) == 1:
        return True, f"engine version {versions[target]} in both regions"
    listed = ", ".join(f"{version} in {region}" for region, version in versions.items())
    return False, f"engine versions differ: {listed}; they must be identical, patch included"


def _lag(look: DatabaseLook, target: str) -> Finding:
    lag = look.lags.get(target)
    if lag is None:
        return False, f"{LAG} of {target} is not known: {look.cause('lag', target)}"
    if lag.ms is None:
        return False, f"{LAG} of {target}, of which at most {LAG_LIMIT_MS} ms are allowed: " + (
            lag.describe()
        )
    text = f"{LAG} of {target}: {lag.describe()} (at most {LAG_LIMIT_MS} ms)"
    return lag.ms <= LAG_LIMIT_MS, text


def _instances(look: DatabaseLook, target: str) -> Finding:
    cluster = look.clusters.get(target)
    if cluster is None:
        return False, f"the cluster in {target} cannot be read: {look.cause('cluster', target)}"
    readers = max(0, cluster.instances - 1)
    return (
        cluster.instances >= INSTANCES,
        f"{target} will have {readers} reader(s) beside the writer (at least {INSTANCES - 1})",
    )


def _proxy(look: DatabaseLook, database: Database, target: str) -> Finding:
    name = database.proxies.get(target, "")
    targets = look.targets.get(target)
    if targets is None:
        return False, f"proxy {name} in {target} cannot be read: {look.cause('targets', target)}"
    good = available(targets)
    odd = [f"{t.state} {t.reason}".strip() for t in targets if t.state != "AVAILABLE"]
    text = f"proxy {name} in {target}: {good} of {len(targets)} targets AVAILABLE"
    return bool(targets) and not odd, text + (f" ({', '.join(odd)})" if odd else "")


def _kept(look: DatabaseLook) -> list[str]:
    """Nothing to do with this move, but an operator must not forget them."""
    return [
        f"kept in {region} of an earlier failover, with what it had not replicated: {names[0]}"
        for region, names in look.snapshots.items()
        if names
    ]


def _unplanned(
    look: DatabaseLook, database: Database, target: str, found: list[Finding]
) -> tuple[list[str], list[str]]:
    """(what makes a failover impossible, what is merely not as it should be)."""
    assert look.cluster is not None
    member = look.cluster.member(database.clusters.get(target))
    hopeless = []
    if member is None:
        hopeless.append(f"{target} is no member of the global cluster")
    elif member.synchronization not in (CONNECTED, ""):
        hopeless.append(f"the replica in {target} is {member.synchronization}: it has no data")
    warnings = [text for good, text in found if not good and not text.startswith(LAG)]
    if all(good for good, _ in found):
        warnings.append(
            f"the region of the writer seems well: without --allow-data-loss {target} could become "
            "the writer and nothing would be lost"
        )
    return hopeless, warnings


def _lag_text(look: DatabaseLook, target: str) -> str:
    lag = look.lags.get(target)
    return lag.describe() if lag else f"not known ({look.cause('lag', target)})"
