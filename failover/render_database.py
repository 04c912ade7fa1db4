"""Databases in plain text: their part of a plan, and their lines of a status. Pure; no colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from failover.database import AVAILABLE, CONNECTED, DatabaseLook, available
from failover.database_plan import LAG_LIMIT_MS, DatabasePlan, Mode, Phase
from failover.recovery import Database, Service

UNSEEN = "not seen"


def plan_lines(name: str, plan: DatabasePlan, known: str = "") -> list[str]:
    """What will be done to a database, and what was seen of it. `known`: the lag, as an earlier
    journal has it."""
    fence = plan.fence.describe() if plan.fence else UNSEEN
    lines = [f"Database of {name}: {_headline(plan)}"]
    if plan.mode is Mode.UNPLANNED and plan.phase in (Phase.AWAY, Phase.DRAINED):
        lines.append("  WHAT HAS NOT BEEN REPLICATED WILL BE LOST")
        lines.append(f"  last known replication lag: {plan.lag}")
        if known:
            lines.append(f"  {known}")
    lines.append(f"  fence: {fence}" + (f" → epoch {plan.epoch}" if plan.epoch else ""))
    lines += [f"  {fact}" for fact in plan.facts if not fact.startswith("fence")]
    lines += [f"  warning: {warning}" for warning in plan.warnings]
    return lines


def _headline(plan: DatabasePlan) -> str:
    writer = plan.writer or UNSEEN
    return {
        Phase.UNKNOWN: "not seen; taken to be where its routing controls are",
        Phase.AWAY: f"{writer} → {plan.target} by {plan.mode.value}",
        Phase.DRAINED: f"{writer} → {plan.target} by {plan.mode.value}; writes are stopped already",
        Phase.MOVING: f"RDS is already making {plan.target} the writer; it is waited for",
        Phase.PROMOTED: f"{plan.target} is the writer; its fence has to be opened",
        Phase.OPEN: f"writes in {plan.target} already",
    }[plan.phase]


def status_rows(
    services: Mapping[str, Service], looks: Mapping[str, DatabaseLook], regions: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the databases' table."""
    head = ["DATABASE", "WRITER", "FENCE", *(f"{r} PROXY, LAG" for r in regions)]
    rows = []
    for name, look in looks.items():
        database = services[name].database
        assert database is not None
        cells = [_region_cell(look, database, region) for region in regions]
        rows.append([name, _writer_cell(look, database), _fence_cell(look), *cells])
    return head, rows


def _writer_cell(look: DatabaseLook, database: Database) -> str:
    if look.cluster is None:
        return UNSEEN
    writer = look.cluster.writer(database) or "none"
    operation = look.cluster.operation
    if operation is None:
        return writer
    towards = database.region_of(operation.target_arn) or operation.target_arn
    return f"{writer} ({operation.status} to {towards})"


def _fence_cell(look: DatabaseLook) -> str:
    fence = look.newest_fence()
    return fence.describe() if fence else UNSEEN


def _region_cell(look: DatabaseLook, database: Database, region: str) -> str:
    targets = look.targets.get(region)
    proxy = UNSEEN if targets is None else f"{available(targets)} of {len(targets)} AVAILABLE"
    if look.cluster is not None and look.cluster.writer(database) == region:
        return f"{proxy}, writer"
    lag = look.lags.get(region)
    if lag is None:
        return f"{proxy}, lag {UNSEEN}"
    if lag.ms is not None:
        return f"{proxy}, {lag.ms:.0f} ms"
    more = f"> {lag.more_than_ms:.0f} ms" if lag.more_than_ms else "lag not known"
    return f"{proxy}, {more}"


def status_faults(name: str, look: DatabaseLook, database: Database, active: str) -> list[str]:
    """What is not as it should be of one database. `active`: the region that has its traffic."""
    if look.cluster is None:
        causes = "; ".join(f"{r}: {look.cause('global', r)}" for r in database.clusters)
        faults = [f"its database was not seen by RDS: {causes}"]
    else:
        writer = look.cluster.writer(database)
        faults = _cluster_faults(look, database)
        if writer != active:
            faults.append(f"the writer of its database is {writer}, not {active}")
    faults += _fence_faults(look, active)
    for region in database.clusters:
        faults += _region_faults(look, database, region)
    return [f"{name}: {fault}" for fault in faults]


def _cluster_faults(look: DatabaseLook, database: Database) -> list[str]:
    cluster = look.cluster
    assert cluster is not None
    faults = []
    if cluster.status != AVAILABLE:
        faults.append(f"global cluster {database.global_cluster} is {cluster.status}")
    for member in cluster.members:
        if not member.is_writer and member.synchronization not in (CONNECTED, ""):
            region = database.region_of(member.arn) or member.arn
            faults.append(f"the replica in {region} is {member.synchronization}")
    versions = {r: c.engine_version for r, c in look.clusters.items()}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{version} in {region}" for region, version in versions.items())
        faults.append(f"engine versions differ: {listed}")
    return faults


def _fence_faults(look: DatabaseLook, active: str) -> list[str]:
    depth = look.depths.get(active)
    if depth is None:
        return [f"what its database can do in {active} was not seen: {look.cause('depth', active)}"]
    if depth.writable:
        return []
    fence = look.newest_fence()
    said = [fence.describe()] if fence and not fence.is_open_in(active) else []
    return [f"{active} takes no writes: {'; '.join((*said, *depth.problems)) or 'no reason given'}"]


def _region_faults(look: DatabaseLook, database: Database, region: str) -> list[str]:
    faults = []
    targets = look.targets.get(region)
    if targets is None:
        faults.append(f"proxy in {region} was not seen: {look.cause('targets', region)}")
    elif available(targets) < max(1, len(targets)):
        faults.append(f"proxy in {region}: {available(targets)} of {len(targets)} AVAILABLE")
    if look.cluster is not None and look.cluster.writer(database) == region:
        return faults
    lag = look.lags.get(region)
    if lag is None:
        faults.append(f"the lag of {region} was not seen: {look.cause('lag', region)}")
    elif lag.ms is None or lag.ms > LAG_LIMIT_MS:
        faults.append(f"the lag of {region} is {lag.describe()}")
    return faults


def look_document(look: DatabaseLook, database: Database) -> dict[str, Any]:
    """A look for the journal and `--json`."""
    cluster, operation = look.cluster, look.cluster.operation if look.cluster else None
    fence = look.newest_fence()
    return {
        "writer": cluster.writer(database) if cluster else None,
        "status": cluster.status if cluster else None,
        "operation": {
            "status": operation.status,
            "to": database.region_of(operation.target_arn) or operation.target_arn,
            "data_loss": operation.data_loss,
        }
        if operation
        else None,
        "fence": {"epoch": fence.epoch, "active_region": fence.active_region, "state": fence.state}
        if fence
        else None,
        "regions": {region: _region_document(look, region) for region in database.clusters},
        "causes": {" ".join(key): cause for key, cause in look.causes.items()},
    }


def _region_document(look: DatabaseLook, region: str) -> dict[str, Any]:
    cluster, depth = look.clusters.get(region), look.depths.get(region)
    lag, targets = look.lags.get(region), look.targets.get(region)
    return {
        "engine_version": cluster.engine_version if cluster else None,
        "instances": cluster.instances if cluster else None,
        "proxy": None
        if targets is None
        else {"available": available(targets), "targets": len(targets)},
        "writable": depth.writable if depth else None,
        "readable": depth.readable if depth else None,
        "lag_ms": lag.ms if lag else None,
        "lag": lag.describe() if lag else None,
    }


def plan_document(plan: DatabasePlan) -> dict[str, Any]:
    return {
        "mode": plan.mode.value,
        "phase": plan.phase.value,
        "from": plan.writer,
        "to": plan.target,
        "epoch_before": plan.fence.epoch if plan.fence else None,
        "epoch_after": plan.epoch or None,
        "lag": plan.lag,
        "facts": list(plan.facts),
        "warnings": list(plan.warnings),
    }


def joined(lines: Iterable[Sequence[str]]) -> list[str]:
    """Blocks of lines, a blank one in front of each."""
    return [line for block in lines for line in ("", *block)]
