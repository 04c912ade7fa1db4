"""Which changes are refused, and which difference of a database is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.backend import Change, ChangePlan
from infra.cloudformation import change_of
from infra.errors import RefusedChangeError
from infra.review import Drift, drifts, essential, faults, of_a_move, refuse
from infra.steps import Stack

STEP = Stack("database-us-west-2", "us-west-2", "database.yaml")
DESCRIBED = json.loads(
    (Path(__file__).parents[1] / "descriptions" / "drift-after-switchover.json").read_text()
)


def plan(*changes: Change) -> ChangePlan:
    return ChangePlan(STEP, False, changes, "handle")


def resource_change(logical_id: str, kind: str, **given: Any) -> dict[str, Any]:
    return {
        "Action": "Modify",
        "LogicalResourceId": logical_id,
        "ResourceType": kind,
        "Replacement": given.get("replacement", "False"),
        "Details": [
            {"Target": {"Attribute": "Properties", "Name": name}} for name in given["names"]
        ],
    }


GLOBAL = change_of(
    resource_change(
        "GlobalCluster",
        "AWS::RDS::GlobalCluster",
        names=["SourceDBClusterIdentifier"],
        replacement="True",
    )
)
MEMBER = change_of(
    resource_change(
        "Cluster",
        "AWS::RDS::DBCluster",
        names=["GlobalClusterIdentifier"],
        replacement="Conditional",
    )
)


def test_what_a_switchover_leaves_is_recognised_in_the_descriptions() -> None:
    found = {name: drifts(described) for name, described in DESCRIBED.items()}

    assert found == {
        "global-database": [],  # no template gives the source, so it is not compared
        "database-us-east-1": [
            Drift("Cluster", "AWS::RDS::DBCluster", "GlobalClusterIdentifier", "REMOVE")
        ],
        "database-us-west-2": [
            Drift("Cluster", "AWS::RDS::DBCluster", "GlobalClusterIdentifier", "REMOVE"),
            Drift("Cluster", "AWS::RDS::DBCluster", "BackupRetentionPeriod", "NOT_EQUAL"),
        ],
    }
    assert [drift.expected for all_of in found.values() for drift in all_of] == [
        True, True, False,
    ]  # fmt: skip


def test_a_template_that_gives_the_source_is_recognised_too() -> None:
    """As in stacks that were not made from this template."""
    (described,) = DESCRIBED["global-database"]
    difference = {
        "PropertyPath": "/SourceDBClusterIdentifier",
        "ExpectedValue": "arn:aws:rds:us-east-1:111122223333:cluster:db-example-com-us-east-1",
        "ActualValue": json.loads(described["ActualProperties"])["SourceDBClusterIdentifier"],
        "DifferenceType": "NOT_EQUAL",
    }

    (drift,) = drifts([{**described, "PropertyDifferences": [difference]}])

    assert drift.expected


@pytest.mark.parametrize("change", [GLOBAL, MEMBER])
def test_it_is_never_carried_out(change: Change) -> None:
    assert of_a_move(change)
    assert essential((change,)) == ()
    with pytest.raises(RefusedChangeError):
        refuse(plan(change), allowed=(STEP.name,))


@pytest.mark.parametrize(
    "change",
    [
        Change("Remove", "Cluster", "AWS::RDS::DBCluster"),
        Change("Modify", "Cluster", "AWS::RDS::DBCluster", "True", ("KmsKeyId",)),
        Change("Modify", "Cluster", "AWS::RDS::DBCluster", "Conditional", ("Port",)),
        Change("Remove", "FirstInstance", "AWS::RDS::DBInstance"),
        Change("Modify", "GlobalCluster", "AWS::RDS::GlobalCluster", "True", ("Engine",)),
        Change(
            "Modify", "Cluster", "AWS::RDS::DBCluster", "False",
            ("GlobalClusterIdentifier", "BackupRetentionPeriod"),
        ),
    ],
)  # fmt: skip
def test_a_database_is_never_removed_replaced_or_moved(change: Change) -> None:
    assert len(faults(plan(change), allowed=(STEP.name,))) == 1


@pytest.mark.parametrize(
    "change",
    [
        Change("Remove", "Stage", "AWS::ApiGateway::Stage"),
        Change("Modify", "Name", "AWS::ApiGateway::DomainName", "True", ("DomainName",)),
        Change("Modify", "Check", "AWS::Route53::HealthCheck", "Conditional", ("Type",)),
        Change("Remove", "Pool", "AWS::Cognito::UserPool"),
    ],
)
def test_what_serves_is_removed_or_replaced_only_when_the_step_is_named(change: Change) -> None:
    with pytest.raises(RefusedChangeError, match="--allow-replacement STEP"):
        refuse(plan(change))

    refuse(plan(change), allowed=(STEP.name,))


@pytest.mark.parametrize(
    "change",
    [
        Change("Add", "Stage", "AWS::ApiGateway::Stage"),
        Change("Modify", "Stage", "AWS::ApiGateway::Stage", "False", ("DeploymentId",)),
        Change("Remove", "Deployment0", "AWS::ApiGateway::Deployment"),
        Change("Modify", "Alarm", "AWS::CloudWatch::Alarm", "True", ("AlarmName",)),
        Change("Modify", "Cluster", "AWS::RDS::DBCluster", "False", ("BackupRetentionPeriod",)),
        Change("Add", "Cluster", "AWS::RDS::DBCluster"),
    ],
)
def test_everything_else_passes(change: Change) -> None:
    refuse(plan(change))


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(RefusedChangeError) as caught:
        refuse(plan(MEMBER, Change("Remove", "Stage", "AWS::ApiGateway::Stage")))

    assert caught.value.reason.count("\n  - ") == 2
