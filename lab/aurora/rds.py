"""The RDS API calls that a recovery needs, answered from the shared state and the agent's view.

`DescribeGlobalClusters`, `DescribeDBClusters`, `DescribeDBProxyTargets`,
`DescribeDBClusterSnapshots`, `SwitchoverGlobalCluster` and `FailoverGlobalCluster` of the API
version 2014-10-31. Anything else is refused as an unknown action: a recovery must not need it. Like
AWS's, the two operations return at once; progress is in the global cluster's `FailoverState`.

Downside: both regions answer from one state, so an API of a region that is cut off knows what it
could not know on AWS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lab.aurora.agent import View
from lab.aurora.errors import ApiError
from lab.aurora.layout import SERVER_PORT, Cluster, Layout, resource_id
from lab.aurora.query import Members, Parameters
from lab.aurora.state import GlobalState, Kind, Operation, Snapshot, StateFile, Step, begin

Answer = dict[str, Any]
_STATUS = {Kind.SWITCHOVER: "switching-over", Kind.FAILOVER: "failing-over"}


class RdsApi:
    """The API of one region. An operation is written down here; the agent finds and runs it."""

    def __init__(
        self,
        region: str,
        layout: Layout,
        state: StateFile,
        view: Callable[[], View],
        clock: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._cluster = layout.clusters[region]
        self._region = region
        self._state = state
        self._view = view
        self._clock = clock

    def answer(self, params: Mapping[str, str]) -> Answer:
        """The members of the action's result. Raises ApiError; StateError if it has no state."""
        actions: dict[str, Callable[[Parameters], Answer]] = {
            "DescribeGlobalClusters": self._describe_global_clusters,
            "DescribeDBClusters": self._describe_clusters,
            "DescribeDBProxyTargets": self._describe_targets,
            "DescribeDBClusterSnapshots": self._describe_snapshots,
            "SwitchoverGlobalCluster": self._switchover,
            "FailoverGlobalCluster": self._failover,
        }
        name = params.get("Action", "")
        if name not in actions:
            raise ApiError("InvalidAction", f"The action {name} is not valid for this web service.")
        return actions[name](Parameters(params))

    # ---- reading

    def _describe_global_clusters(self, params: Parameters) -> Answer:
        wanted = params.get("GlobalClusterIdentifier")
        if wanted:
            self._check_global(wanted)
        members = params.filtered("db-cluster-id")
        known = {c.arn for c in self._layout.clusters.values()}
        known |= {c.identifier for c in self._layout.clusters.values()}
        shown = not members or bool(members & known)
        clusters = [self._global_cluster(self._state.read())] if shown else []
        return {"GlobalClusters": Members("GlobalClusterMember", clusters)}

    def _describe_clusters(self, params: Parameters) -> Answer:
        wanted = params.get("DBClusterIdentifier")
        own = (self._cluster.identifier, self._cluster.arn)
        if wanted and wanted.lower() not in [name.lower() for name in own]:
            raise ApiError("DBClusterNotFoundFault", f"DBCluster {wanted} not found.", 404)
        filtered = params.filtered("db-cluster-id")
        shown = not filtered or bool(filtered & set(own))
        clusters = [self._db_cluster(self._state.read())] if shown else []
        return {"DBClusters": Members("DBCluster", clusters)}

    def _describe_targets(self, params: Parameters) -> Answer:
        name = params.required("DBProxyName")
        if name.lower() != self._cluster.proxy_name.lower():
            raise ApiError("DBProxyNotFoundFault", f"DB proxy {name} not found.", 404)
        group = params.get("TargetGroupName") or "default"
        if group != "default":
            raise ApiError(
                "DBProxyTargetGroupNotFoundFault", f"Target group {group} not found.", 404
            )
        return {"Targets": Members("member", _targets(self._cluster, self._view()))}

    def _describe_snapshots(self, params: Parameters) -> Answer:
        cluster = params.get("DBClusterIdentifier")
        wanted = params.get("DBClusterSnapshotIdentifier")
        kept = [s for s in self._state.read().snapshots if s.region == self._region]
        kept = [s for s in kept if not wanted or wanted in (s.identifier, self._snapshot_arn(s))]
        if cluster and cluster not in (self._cluster.identifier, self._cluster.arn):
            kept = []
        if params.get("SnapshotType") not in ("", "automated"):
            kept = []
        if wanted and not kept:
            raise ApiError(
                "DBClusterSnapshotNotFoundFault", f"DBClusterSnapshot {wanted} not found.", 404
            )
        snapshots = [self._snapshot(s) for s in kept]
        return {"DBClusterSnapshots": Members("DBClusterSnapshot", snapshots)}

    # ---- operations

    def _switchover(self, params: Parameters) -> Answer:
        return self._begin_switchover(self._target(params))

    def _failover(self, params: Parameters) -> Answer:
        loss, switch = params.flag("AllowDataLoss"), params.flag("Switchover")
        if loss and switch:
            raise ApiError(
                "InvalidParameterCombination",
                "AllowDataLoss can't be specified together with the Switchover parameter.",
            )
        target = self._target(params)
        return self._begin_failover(target) if loss else self._begin_switchover(target)

    def _begin_switchover(self, target: Cluster) -> Answer:
        """Called in the primary's region (user guide, performing switchovers)."""

        def change(state: GlobalState) -> GlobalState:
            self._check_idle(state)
            self._check_not_writer(state, target)
            if state.writer != self._region:
                raise _invalid_global(
                    f"A switchover is called in the Region of the primary cluster: {state.writer}"
                )
            if state.resyncs:
                raise _invalid_global(
                    "All clusters of the global cluster must be synchronized: "
                    + ", ".join(f"{r.region} is pending-resync" for r in state.resyncs)
                )
            self._check_versions(target)
            if not self._view().reachable:
                raise ApiError(
                    "InvalidDBClusterStateFault",
                    f"The primary cluster {self._cluster.arn} isn't available",
                )
            return self._with_operation(state, Kind.SWITCHOVER, state.writer, target)

        return self._begin(change)

    def _begin_failover(self, target: Cluster) -> Answer:
        """Called in the target's region (user guide, performing managed failovers)."""

        def change(state: GlobalState) -> GlobalState:
            if state.operation is not None and not state.operation.stuck(self._clock()):
                self._check_idle(state)
            if state.operation is None:
                self._check_not_writer(state, target)
            if target.region != self._region:
                raise _invalid_global(
                    "A failover is called in the Region of the cluster that is to become the "
                    f"primary: {target.region}"
                )
            if state.resync_of(target.region):
                raise ApiError(
                    "InvalidDBClusterStateFault", f"{target.arn} isn't synchronized: pending-resync"
                )
            self._check_versions(target)
            if not self._view().reachable:
                raise ApiError("InvalidDBClusterStateFault", f"{target.arn} isn't available")
            source = self._layout.other(target.region)
            return self._with_operation(state, Kind.FAILOVER, source, target)

        return self._begin(change)

    def _begin(self, change: Callable[[GlobalState], GlobalState]) -> Answer:
        state = self._state.update(change)
        return {"GlobalCluster": self._global_cluster(state)}

    def _with_operation(
        self, state: GlobalState, kind: Kind, source: str, target: Cluster
    ) -> GlobalState:
        operation = begin(kind, source, target.region, self._region, self._clock())
        return replace(state, operation=operation)

    def _target(self, params: Parameters) -> Cluster:
        self._check_global(params.required("GlobalClusterIdentifier"))
        wanted = params.required("TargetDbClusterIdentifier")
        if not wanted.startswith("arn:"):
            raise ApiError(
                "InvalidParameterValue",
                f"TargetDbClusterIdentifier must be the ARN of a DB cluster, not {wanted}",
            )
        for cluster in self._layout.clusters.values():
            if cluster.arn.lower() == wanted.lower():
                return cluster
        raise ApiError("DBClusterNotFoundFault", f"DBCluster {wanted} not found.", 404)

    def _check_global(self, wanted: str) -> None:
        """The identifier isn't case-sensitive (API Reference)."""
        own = (self._layout.global_cluster.lower(), self._layout.global_arn.lower())
        if wanted.lower() not in own:
            raise ApiError(
                "GlobalClusterNotFoundFault", f"Global cluster {wanted} not found", 404
            )

    def _check_idle(self, state: GlobalState) -> None:
        if state.operation is not None:
            raise _invalid_global(
                f"Global cluster {self._layout.global_cluster} is in state "
                f"{_STATUS[state.operation.kind]}"
            )

    def _check_not_writer(self, state: GlobalState, target: Cluster) -> None:
        if target.region == state.writer:
            raise ApiError(
                "InvalidDBClusterStateFault", f"{target.arn} is already the primary cluster"
            )

    def _check_versions(self, target: Cluster) -> None:
        """Aurora MySQL wants identical patch levels (user guide, upgrading global databases)."""
        versions = {c.engine_version for c in self._layout.clusters.values()}
        if len(versions) > 1:
            raise ApiError(
                "InvalidDBClusterStateFault",
                f"{target.arn}: the clusters have different engine versions: "
                + ", ".join(sorted(versions)),
            )

    # ---- shapes

    def _global_cluster(self, state: GlobalState) -> Answer:
        layout = self._layout
        status = "available" if state.operation is None else _STATUS[state.operation.kind]
        return {
            "GlobalClusterIdentifier": layout.global_cluster,
            "GlobalClusterResourceId": resource_id("cluster-", layout.global_arn).lower(),
            "GlobalClusterArn": layout.global_arn,
            "Status": status,
            "Engine": layout.engine,
            "EngineVersion": layout.engine_version,
            "DatabaseName": layout.database,
            "StorageEncrypted": layout.storage_encrypted,
            "DeletionProtection": layout.deletion_protection,
            "GlobalClusterMembers": Members(
                "GlobalClusterMember", [self._member(state, c) for c in layout.clusters.values()]
            ),
            "FailoverState": None if state.operation is None else self._failover_state(
                state.operation
            ),
            "TagList": Members("Tag", []),
        }

    def _member(self, state: GlobalState, cluster: Cluster) -> Answer:
        is_writer = cluster.region == state.writer
        readers = [c.arn for c in self._layout.clusters.values() if c is not cluster]
        resync = state.resync_of(cluster.region) is not None
        return {
            "DBClusterArn": cluster.arn,
            "Readers": Members("member", readers if is_writer else []),
            "IsWriter": is_writer,
            "GlobalWriteForwardingStatus": "disabled",
            "SynchronizationStatus": "pending-resync" if resync else "connected",
        }

    def _failover_state(self, operation: Operation) -> Answer:
        status = _STATUS[operation.kind]
        if operation.step in (Step.PENDING, Step.CANCELLING):
            status = operation.step.value
        return {
            "Status": status,
            "FromDbClusterArn": self._layout.clusters[operation.source].arn,
            "ToDbClusterArn": self._layout.clusters[operation.target].arn,
            "IsDataLossAllowed": operation.kind is Kind.FAILOVER,
        }

    def _db_cluster(self, state: GlobalState) -> Answer:
        cluster, layout = self._cluster, self._layout
        is_writer = state.writer == cluster.region
        members = [
            {
                "DBInstanceIdentifier": name,
                "IsClusterWriter": is_writer and number == 0,
                "DBClusterParameterGroupStatus": "in-sync",
                "PromotionTier": 1,
            }
            for number, name in enumerate(cluster.instances)
        ]
        return {
            "DBClusterIdentifier": cluster.identifier,
            "DBClusterArn": cluster.arn,
            "DbClusterResourceId": resource_id("cluster-", cluster.arn),
            "Status": cluster_status(state, cluster.region, self._view()),
            "Engine": layout.engine,
            "EngineVersion": cluster.engine_version,
            "EngineMode": "provisioned",
            "DatabaseName": layout.database,
            "Endpoint": cluster.endpoint,
            "ReaderEndpoint": cluster.reader_endpoint,
            "Port": SERVER_PORT,
            "MultiAZ": len(cluster.instances) > 1,
            "StorageEncrypted": layout.storage_encrypted,
            "DBClusterMembers": Members("DBClusterMember", members),
            "GlobalClusterIdentifier": layout.global_cluster,
            "GlobalWriteForwardingStatus": "disabled",
            "ReadReplicaIdentifiers": Members(
                "ReadReplicaIdentifier", [layout.clusters[layout.other(cluster.region)].arn]
                if is_writer else []
            ),
            "ReplicationSourceIdentifier": None if is_writer else layout.clusters[
                layout.other(cluster.region)
            ].arn,
            "DeletionProtection": layout.deletion_protection,
        }

    def _snapshot(self, snapshot: Snapshot) -> Answer:
        return {
            "DBClusterSnapshotIdentifier": snapshot.identifier,
            "DBClusterSnapshotArn": self._snapshot_arn(snapshot),
            "DBClusterIdentifier": self._cluster.identifier,
            "SnapshotCreateTime": datetime.fromtimestamp(snapshot.created, UTC).isoformat(),
            "Engine": self._layout.engine,
            "EngineVersion": self._cluster.engine_version,
            "Status": "available",
            "SnapshotType": "automated",
            "PercentProgress": 100,
            "StorageEncrypted": self._layout.storage_encrypted,
        }

    def _snapshot_arn(self, snapshot: Snapshot) -> str:
        return self._cluster.arn.replace(
            f":cluster:{self._cluster.identifier}", f":cluster-snapshot:{snapshot.identifier}"
        )


def cluster_status(state: GlobalState, region: str, view: View) -> str:
    """What an unreachable server and a volume that is being replaced look like is assumed."""
    if state.operation is not None and region in (state.operation.source, state.operation.target):
        return _STATUS[state.operation.kind]
    if view.rebuilding:
        return "creating"
    return "available" if view.reachable else "failing-over"


def _targets(cluster: Cluster, view: View) -> list[Answer]:
    """One target per instance. The writer's role goes to the first one of a writing cluster."""
    health: Answer = {"State": "AVAILABLE"}
    if view.rebuilding:
        health = {"State": "UNAVAILABLE", "Reason": "INVALID_REPLICATION_STATE",
                  "Description": "The storage volume is being rebuilt"}
    elif view.read_only is None:
        health = {"State": "REGISTERING"}
    elif not view.reachable:
        health = {"State": "UNAVAILABLE", "Reason": "UNREACHABLE", "Description": view.fault}
    targets = []
    for number, name in enumerate(cluster.instances):
        writes = view.read_only is False and number == 0
        targets.append(
            {
                "Endpoint": f"{name}.{cluster.endpoint.partition('.')[2]}",
                "RdsResourceId": name,
                "Port": SERVER_PORT,
                "Type": "RDS_INSTANCE",
                "TrackedClusterId": cluster.identifier,
                "Role": "READ_WRITE" if writes else "READ_ONLY",
                "TargetHealth": health,
            }
        )
    tracked = {"RdsResourceId": cluster.identifier, "Port": SERVER_PORT, "Type": "TRACKED_CLUSTER"}
    return [tracked, *targets]


def _invalid_global(message: str) -> ApiError:
    return ApiError("InvalidGlobalClusterStateFault", message)
