"""One attempt at one region's RDS API, by botocore.

Loading the model of RDS takes a third of a second; looking at the database before anything is
stopped pays for it. The address is the region's usual one unless recovery.json has another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from failover.aws import CREDENTIAL_CODES, Clients
from failover.database import Cluster, GlobalCluster, Member, Operation, ProxyTarget
from failover.errors import CallRejected, CredentialsError, RdsRefusal
from failover.ports import EndpointFailed
from failover.recovery import Recovery

SERVICE = "rds"
CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 5.0
"""Seconds, both, for one attempt."""

STATE_CODES = frozenset(
    {
        "InvalidGlobalClusterStateFault",
        "InvalidDBClusterStateFault",
        "InvalidDBClusterStateException",
        "GlobalClusterNotFoundFault",
        "DBClusterNotFoundFault",
        "DBProxyNotFoundFault",
        "DBProxyTargetGroupNotFoundFault",
        "DBProxyTargetNotFoundFault",
        "InvalidDBProxyStateFault",
    }
)
"""What RDS says when the clusters are not in a state for it, or are not there at all (API
reference, SwitchoverGlobalCluster, FailoverGlobalCluster, DescribeDBProxyTargets)."""
FINAL_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "ValidationError",
        "ValidationException",
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "MissingParameter",
        "InvalidAction",
        "NotAuthorized",
        "OptInRequired",
    }
)
LOST_VOLUME = "rds:unplanned-global-failover-"
"""How the identifier of the snapshot begins that a failover keeps of the old primary's volume
(Aurora user guide, "Recovering an Aurora global database from an unplanned outage")."""


def judge(code: str, text: str, region: str) -> Exception:
    """What an error answer of RDS means. Pure."""
    if code in STATE_CODES:
        return RdsRefusal(code, text, region)
    if code in FINAL_CODES:
        return CallRejected(code, text, f"RDS in {region}")
    if code in CREDENTIAL_CODES:
        return CredentialsError(f"RDS in {region} does not accept the credentials: {code}: {text}")
    return EndpointFailed(f"{code}: {text}" if text else code, ambiguous=True)


class BotocoreRds:
    """`ports.Rds`."""

    def __init__(
        self,
        recovery: Recovery,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._recovery = recovery
        self._clients = Clients(SERVICE, connect_timeout, read_timeout)

    def global_cluster(self, region: str, identifier: str) -> GlobalCluster:
        answer = self._call(region, "describe_global_clusters", GlobalClusterIdentifier=identifier)
        found = answer.get("GlobalClusters", [])
        if not found:
            raise RdsRefusal("GlobalClusterNotFoundFault", f"there is no {identifier}", region)
        return read_global_cluster(found[0])

    def cluster(self, region: str, arn: str) -> Cluster:
        answer = self._call(region, "describe_db_clusters", DBClusterIdentifier=arn)
        found = answer.get("DBClusters", [])
        if not found:
            raise RdsRefusal("DBClusterNotFoundFault", f"there is no {arn}", region)
        return Cluster(
            str(found[0].get("EngineVersion", "")),
            len(found[0].get("DBClusterMembers", [])),
            str(found[0].get("Status", "")),
        )

    def targets(self, region: str, proxy: str) -> tuple[ProxyTarget, ...]:
        answer = self._call(region, "describe_db_proxy_targets", DBProxyName=proxy)
        return tuple(
            ProxyTarget(str(health.get("State", "")), str(health.get("Reason", "")))
            for target in answer.get("Targets", [])
            if target.get("Type") != "TRACKED_CLUSTER"
            for health in [target.get("TargetHealth", {})]
        )

    def switch_over(self, region: str, identifier: str, target_arn: str) -> None:
        self._call(
            region,
            "switchover_global_cluster",
            GlobalClusterIdentifier=identifier,
            TargetDbClusterIdentifier=target_arn,
        )

    def fail_over(self, region: str, identifier: str, target_arn: str) -> None:
        self._call(
            region,
            "failover_global_cluster",
            GlobalClusterIdentifier=identifier,
            TargetDbClusterIdentifier=target_arn,
            AllowDataLoss=True,
        )

    def snapshots(self, region: str, arn: str) -> tuple[str, ...]:
        answer = self._call(region, "describe_db_cluster_snapshots", DBClusterIdentifier=arn)
        found = [
            (str(s.get("SnapshotCreateTime", "")), str(s["DBClusterSnapshotIdentifier"]))
            for s in answer.get("DBClusterSnapshots", [])
            if str(s.get("DBClusterSnapshotIdentifier", "")).startswith(LOST_VOLUME)
        ]
        return tuple(identifier for _, identifier in sorted(found, reverse=True))

    def _call(self, region: str, operation: str, **parameters: Any) -> dict[str, Any]:
        url = self._recovery.endpoints.get(region, {}).get(SERVICE)
        return self._clients.call(
            region, url, operation, lambda code, text, _: judge(code, text, region), **parameters
        )


def read_global_cluster(given: Mapping[str, Any]) -> GlobalCluster:
    """One member of `GlobalClusters`. An empty FailoverState is none. Pure."""
    members = tuple(
        Member(
            str(m.get("DBClusterArn", "")),
            bool(m.get("IsWriter", False)),
            str(m.get("SynchronizationStatus", "")),
        )
        for m in given.get("GlobalClusterMembers", [])
    )
    state = given.get("FailoverState") or {}
    operation = None
    if state.get("ToDbClusterArn"):
        operation = Operation(
            str(state.get("Status", "")),
            str(state.get("FromDbClusterArn", "")),
            str(state["ToDbClusterArn"]),
            bool(state.get("IsDataLossAllowed", False)),
        )
    return GlobalCluster(str(given.get("Status", "")), members, operation)
