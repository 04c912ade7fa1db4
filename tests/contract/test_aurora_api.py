"""RDS and Secrets Manager as boto3 sees them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aurora_support import (
    EAST,
    GLOBAL,
    REGIONS,
    WEST,
    World,
    cluster_arn,
    make_world,
    running,
    secret_arn,
    until,
)
from botocore.exceptions import ClientError

from lab.aurora import API_PORT, ApiError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = make_world(tmp_path_factory.mktemp("lab"), borrow_timeout=1)
    with running(world, table=False) as world:
        yield world


def refused(call: Any, **parameters: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as refusal:
        call(**parameters)
    response = refusal.value.response
    return (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"],
            response["Error"]["Message"])


def move(target: str) -> dict[str, str]:
    return {"GlobalClusterIdentifier": GLOBAL, "TargetDbClusterIdentifier": target}


@pytest.mark.parametrize("region", REGIONS)
def test_global_cluster_is_the_same_in_both_regions(world: World, region: str) -> None:
    cluster = world.global_cluster(region)
    assert cluster["GlobalClusterIdentifier"] == GLOBAL
    assert cluster["GlobalClusterArn"] == f"arn:aws:rds::111122223333:global-cluster:{GLOBAL}"
    assert (cluster["Status"], cluster["Engine"]) == ("available", "aurora-mysql")
    assert cluster["EngineVersion"] == "8.0.mysql_aurora.3.10.1"
    assert (cluster["StorageEncrypted"], cluster["DeletionProtection"]) == (True, True)
    assert "FailoverState" not in cluster
    assert cluster["GlobalClusterMembers"] == [
        {
            "DBClusterArn": cluster_arn(EAST), "Readers": [cluster_arn(WEST)], "IsWriter": True,
            "GlobalWriteForwardingStatus": "disabled", "SynchronizationStatus": "connected",
        },
        {
            "DBClusterArn": cluster_arn(WEST), "Readers": [], "IsWriter": False,
            "GlobalWriteForwardingStatus": "disabled", "SynchronizationStatus": "connected",
        },
    ]


def test_identifier_of_a_global_cluster_is_not_case_sensitive(world: World) -> None:
    rds = world.boto("rds", EAST)
    assert rds.describe_global_clusters(GlobalClusterIdentifier=GLOBAL.upper())["GlobalClusters"]
    code, status, _ = refused(rds.describe_global_clusters, GlobalClusterIdentifier="other")
    assert (code, status) == ("GlobalClusterNotFoundFault", 404)
    filters = [{"Name": "db-cluster-id", "Values": [cluster_arn(WEST)]}]
    assert rds.describe_global_clusters(Filters=filters)["GlobalClusters"]
    filters[0]["Values"] = ["arn:aws:rds:us-east-1:111122223333:cluster:other"]
    assert rds.describe_global_clusters(Filters=filters)["GlobalClusters"] == []


def test_each_region_describes_its_own_cluster(world: World) -> None:
    for region, writers in ((EAST, [True, False]), (WEST, [False, False])):
        rds = world.boto("rds", region)
        (cluster,) = rds.describe_db_clusters()["DBClusters"]
        assert cluster["DBClusterArn"] == cluster_arn(region)
        assert (cluster["Status"], cluster["EngineVersion"]) == (
            "available", "8.0.mysql_aurora.3.10.1",
        )
        assert cluster["ReaderEndpoint"].startswith(f"todo-{region}.cluster-ro-")
        members = cluster["DBClusterMembers"]
        assert [m["DBInstanceIdentifier"] for m in members] == [
            f"todo-{region}-1", f"todo-{region}-2",
        ]
        assert [m["IsClusterWriter"] for m in members] == writers
        by_arn = rds.describe_db_clusters(DBClusterIdentifier=cluster_arn(region))
        assert by_arn["DBClusters"] == [cluster]
    code, status, _ = refused(
        world.boto("rds", EAST).describe_db_clusters, DBClusterIdentifier=f"todo-{WEST}"
    )
    assert (code, status) == ("DBClusterNotFoundFault", 404)


def test_proxy_targets_have_role_and_health(world: World) -> None:
    for region, role in ((EAST, "READ_WRITE"), (WEST, "READ_ONLY")):
        rds = world.boto("rds", region)
        targets = rds.describe_db_proxy_targets(DBProxyName=f"todo-{region}")["Targets"]
        tracked, *instances = targets
        assert (tracked["Type"], tracked["RdsResourceId"]) == ("TRACKED_CLUSTER", f"todo-{region}")
        assert [t["Role"] for t in instances] == [role, "READ_ONLY"]
        assert all(t["TargetHealth"] == {"State": "AVAILABLE"} for t in instances)
        assert {t["TrackedClusterId"] for t in instances} == {f"todo-{region}"}
    code, status, _ = refused(rds.describe_db_proxy_targets, DBProxyName="other")
    assert (code, status) == ("DBProxyNotFoundFault", 404)
    code, _, _ = refused(
        rds.describe_db_proxy_targets, DBProxyName=f"todo-{WEST}", TargetGroupName="x"
    )
    assert code == "DBProxyTargetGroupNotFoundFault"


def test_target_of_a_dead_server_is_unavailable(world: World) -> None:
    world.kill_server(WEST)
    rds = world.boto("rds", WEST)

    def health() -> dict[str, str]:
        target = rds.describe_db_proxy_targets(DBProxyName=f"todo-{WEST}")["Targets"][1]
        return dict(target["TargetHealth"])

    until(lambda: health()["State"] == "UNAVAILABLE")
    assert health()["Reason"] == "UNREACHABLE"
    assert rds.describe_db_clusters()["DBClusters"][0]["Status"] == "failing-over"
    code, _, _ = refused(
        rds.failover_global_cluster, **move(cluster_arn(WEST)), AllowDataLoss=True
    )
    assert code == "InvalidDBClusterStateFault"
    world.start_server(WEST)
    until(lambda: health()["State"] == "AVAILABLE")


def test_what_a_switchover_refuses(world: World) -> None:
    east, west = (world.boto("rds", region) for region in REGIONS)
    calls = [
        (east, move("todo-us-west-2"), "InvalidParameterValue", 400),  # no ARN
        (east, move(cluster_arn(WEST) + "x"), "DBClusterNotFoundFault", 404),
        (east, {**move(cluster_arn(WEST)), "GlobalClusterIdentifier": "other"},
         "GlobalClusterNotFoundFault", 404),
        (east, move(cluster_arn(EAST)), "InvalidDBClusterStateFault", 400),  # is the primary
        (west, move(cluster_arn(WEST)), "InvalidGlobalClusterStateFault", 400),  # wrong region
    ]
    for client, parameters, code, status in calls:
        for call in (client.switchover_global_cluster, client.failover_global_cluster):
            assert refused(call, **parameters)[:2] == (code, status)
    assert world.global_cluster(EAST)["Status"] == "available"


def test_what_a_failover_refuses(world: World) -> None:
    east, west = (world.boto("rds", region) for region in REGIONS)
    both = refused(
        west.failover_global_cluster, **move(cluster_arn(WEST)), AllowDataLoss=True, Switchover=True
    )
    assert both[0] == "InvalidParameterCombination"
    elsewhere = refused(
        east.failover_global_cluster, **move(cluster_arn(WEST)), AllowDataLoss=True
    )
    assert elsewhere[0] == "InvalidGlobalClusterStateFault"
    assert "us-west-2" in elsewhere[2]
    already = refused(east.failover_global_cluster, **move(cluster_arn(EAST)), AllowDataLoss=True)
    assert already[0] == "InvalidDBClusterStateFault"


def test_failover_call_without_a_flag_is_a_switchover(world: World) -> None:
    answer = world.boto("rds", EAST).failover_global_cluster(**move(cluster_arn(WEST)))
    cluster = answer["GlobalCluster"]
    assert cluster["Status"] == "switching-over"
    assert cluster["FailoverState"] == {
        "Status": "pending", "FromDbClusterArn": cluster_arn(EAST),
        "ToDbClusterArn": cluster_arn(WEST), "IsDataLossAllowed": False,
    }
    world.settled(EAST, WEST)
    assert world.rds_events()[-1] == "0185"
    world.boto("rds", WEST).failover_global_cluster(**move(cluster_arn(EAST)), Switchover=True)
    world.settled(EAST, EAST)


def test_second_operation_is_refused_while_one_is_under_way(world: World) -> None:
    rds = world.boto("rds", EAST)
    rds.switchover_global_cluster(**move(cluster_arn(WEST)))
    code, status, _ = refused(rds.switchover_global_cluster, **move(cluster_arn(WEST)))
    assert (code, status) == ("InvalidGlobalClusterStateFault", 400)
    world.settled(EAST, WEST)
    world.switchover(WEST, EAST)


def test_snapshots_are_none_at_first(world: World) -> None:
    rds = world.boto("rds", EAST)
    assert rds.describe_db_cluster_snapshots()["DBClusterSnapshots"] == []
    code, status, _ = refused(
        rds.describe_db_cluster_snapshots, DBClusterSnapshotIdentifier="rds:other"
    )
    assert (code, status) == ("DBClusterSnapshotNotFoundFault", 404)


def test_control_plane_calls_are_unknown(world: World) -> None:
    rds = world.boto("rds", EAST)
    code, _, _ = refused(
        rds.remove_from_global_cluster, GlobalClusterIdentifier=GLOBAL,
        DbClusterIdentifier=cluster_arn(WEST),
    )
    assert code == "InvalidAction"


def test_signature_is_checked_in_form(world: World) -> None:
    code, status, _ = refused(world.boto("rds", EAST, signed_for=WEST).describe_global_clusters)
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    connection = http.client.HTTPConnection(world.address(EAST), API_PORT, timeout=3)
    body = "Action=DescribeGlobalClusters&Version=2014-10-31"
    connection.request("POST", "/", body, {"Content-Type": "application/x-www-form-urlencoded"})
    response = connection.getresponse()
    assert (response.status, b"MissingAuthenticationToken" in response.read()) == (403, True)
    connection.request("POST", "/", body, {"Authorization": "AWS4-HMAC-SHA256 nonsense"})
    response = connection.getresponse()
    assert (response.status, b"IncompleteSignature" in response.read()) == (400, True)
    connection.close()


# ---- Secrets Manager


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("user", ["application", "admin"])
def test_secret_is_the_same_in_both_regions(world: World, region: str, user: str) -> None:
    arn = secret_arn(user, region)
    client = world.boto("secretsmanager", region)
    by_name = client.get_secret_value(SecretId=f"todo/{user}")
    assert by_name["ARN"] == arn
    assert by_name["VersionStages"] == ["AWSCURRENT"]
    document = json.loads(by_name["SecretString"])
    assert document == {"username": f"todo_{user.removesuffix('lication')}",
                        "password": world.login(user)[1]}
    assert len(document["password"]) == 40
    for secret_id in (arn, arn[:-7]):
        answer = client.get_secret_value(SecretId=secret_id, VersionId=by_name["VersionId"])
        assert answer["SecretString"] == by_name["SecretString"]


def test_secret_that_is_not_there(world: World) -> None:
    client = world.boto("secretsmanager", EAST)
    for secret_id in ("other", secret_arn("application", WEST)):
        code, status, message = refused(client.get_secret_value, SecretId=secret_id)
        assert (code, status) == ("ResourceNotFoundException", 400)
        assert message == "Secrets Manager can't find the specified secret."
    code, _, _ = refused(
        client.get_secret_value, SecretId="todo/application", VersionStage="AWSPREVIOUS"
    )
    assert code == "ResourceNotFoundException"
    code, _, _ = refused(client.get_secret_value, SecretId="todo/application", VersionId="9" * 36)
    assert code == "ResourceNotFoundException"
    code, _, _ = refused(client.put_secret_value, SecretId="todo/application", SecretString="x")
    assert code == "UnknownOperationException"


def test_secret_is_offered_to_other_parts_of_the_region(world: World) -> None:
    part, loop = world.parts[WEST], world.loops[WEST]
    answer = loop.run(part.get_secret_value("todo/application"))
    assert json.loads(answer["SecretString"])["username"] == "todo_app"
    with pytest.raises(ApiError, match="ResourceNotFoundException"):
        loop.run(part.get_secret_value("other"))
