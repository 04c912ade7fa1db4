"""What goes to CloudFormation, request by request, through boto3 with botocore's Stubber: each
request exactly as expected, and allowed by the service model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from infra.cloudformation import CloudFormation, Pace
from infra.steps import Stack
from infra.topology import Service, Topology

TOPOLOGY = Topology("shop.com", ("us-east-1", "us-west-2"), {"a": Service("a")})
STEP = Stack("global-database", "us-east-1", "global-database.yaml")
NAME = "shop-com-global-database"
STACK_ID = f"arn:aws:cloudformation:us-east-1:111122223333:stack/{NAME}/0a"
HANDLE = "arn:aws:cloudformation:us-east-1:111122223333:changeSet/infra-1-0/0b"
DOCUMENT: dict[str, Any] = {
    "Resources": {"G": {"Type": "AWS::RDS::GlobalCluster"}, "R": {"Type": "AWS::IAM::Role"}}
}
TAGS = [
    {"Key": "two-region-api:domain", "Value": "shop.com"},
    {"Key": "two-region-api:step", "Value": "global-database"},
    {"Key": "two-region-api:regions", "Value": "us-east-1+us-west-2"},
]


def stack(status: str) -> dict[str, Any]:
    return {
        "Stacks": [
            {
                "StackName": NAME,
                "StackId": STACK_ID,
                "CreationTime": datetime(2026, 11, 20, tzinfo=UTC),
                "StackStatus": status,
                "Tags": TAGS,
                "Outputs": [{"OutputKey": "GlobalClusterName", "OutputValue": "db-shop-com"}],
            }
        ]
    }


def missing(stubber: Stubber) -> None:
    stubber.add_client_error(
        "describe_stacks",
        "ValidationError",
        f"Stack with id {NAME} does not exist",
        400,
        expected_params={"StackName": NAME},
    )


class OneClient:
    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, service: str, region: str) -> Any:
        assert (service, region) == ("cloudformation", "us-east-1")
        return self._client

    def cluster_endpoint(self, url: str, region: str) -> Any:
        raise AssertionError(url)


@pytest.fixture
def stubber() -> Iterator[Stubber]:
    client = boto3.client(
        "cloudformation",
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="none",
    )
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def backend(stubber: Stubber) -> CloudFormation:
    pace = Pace(lambda seconds: None, lambda: 0.0)
    return CloudFormation(OneClient(stubber.client), TOPOLOGY, str, pace, run="infra-1")


def request(kind: str) -> dict[str, Any]:
    return {
        "StackName": NAME,
        "ChangeSetName": "infra-1-0",
        "ChangeSetType": kind,
        "TemplateBody": json.dumps(DOCUMENT, separators=(",", ":")),
        "Parameters": [
            {"ParameterKey": "EngineVersion", "ParameterValue": "1"},
            {"ParameterKey": "GlobalClusterName", "ParameterValue": "db-shop-com"},
        ],
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": TAGS,
    }


PARAMETERS = {"GlobalClusterName": "db-shop-com", "EngineVersion": "1"}
ADDED = {"Action": "Add", "LogicalResourceId": "G", "ResourceType": "AWS::RDS::GlobalCluster"}


def test_a_creation(stubber: Stubber, backend: CloudFormation) -> None:
    missing(stubber)
    created = {"Id": HANDLE, "StackId": STACK_ID}
    stubber.add_response("create_change_set", created, request("CREATE"))
    stubber.add_response(
        "describe_change_set", {"Status": "CREATE_IN_PROGRESS"}, {"ChangeSetName": HANDLE}
    )
    stubber.add_response(
        "describe_change_set",
        {"Status": "CREATE_COMPLETE", "Changes": [{"Type": "Resource", "ResourceChange": ADDED}]},
        {"ChangeSetName": HANDLE},
    )
    plan = backend.plan(STEP, DOCUMENT, PARAMETERS)
    assert plan.new
    assert [change.logical_id for change in plan.changes] == ["G"]

    stubber.add_response(
        "execute_change_set",
        {},
        {"ChangeSetName": HANDLE, "ClientRequestToken": "infra-1", "RetainExceptOnCreate": True},
    )
    for status in ("CREATE_IN_PROGRESS", "CREATE_COMPLETE"):
        stubber.add_response("describe_stacks", stack(status), {"StackName": NAME})
    stubber.add_response(
        "set_stack_policy", {}, {"StackName": NAME, "StackPolicyBody": ANY}
    )
    stubber.add_response("describe_stacks", stack("CREATE_COMPLETE"), {"StackName": NAME})
    assert backend.apply(plan) == {"GlobalClusterName": "db-shop-com"}


def test_a_service_role_goes_with_the_change_set(
    stubber: Stubber, backend: CloudFormation
) -> None:
    backend.role = "arn:aws:iam::111122223333:role/two-region-api-cloudformation"
    missing(stubber)
    created = {"Id": HANDLE, "StackId": STACK_ID}
    wanted = {**request("CREATE"), "RoleARN": backend.role}
    stubber.add_response("create_change_set", created, wanted)
    stubber.add_response(
        "describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []},
        {"ChangeSetName": HANDLE},
    )  # fmt: skip

    assert backend.plan(STEP, DOCUMENT, PARAMETERS).handle == HANDLE


def test_the_pipeline_is_made_with_the_callers_permissions(
    stubber: Stubber, backend: CloudFormation
) -> None:
    """It makes a role that may deploy; see docs/permissions.md."""
    backend.role = "arn:aws:iam::111122223333:role/two-region-api-cloudformation"
    missing(stubber)
    created = {"Id": HANDLE, "StackId": STACK_ID}
    stubber.add_response("create_change_set", created, request("CREATE"))
    stubber.add_response(
        "describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []},
        {"ChangeSetName": HANDLE},
    )  # fmt: skip
    pipeline = Stack(STEP.name, STEP.region, "pipeline.yaml")

    assert backend.plan(pipeline, DOCUMENT, PARAMETERS).handle == HANDLE


def test_nothing_to_change(stubber: Stubber, backend: CloudFormation) -> None:
    stubber.add_response("describe_stacks", stack("UPDATE_COMPLETE"), {"StackName": NAME})
    stubber.add_response("create_change_set", {"Id": HANDLE}, request("UPDATE"))
    reason = "The submitted information didn't contain changes. Submit different information"
    stubber.add_response(
        "describe_change_set",
        {"Status": "FAILED", "StatusReason": reason},
        {"ChangeSetName": HANDLE},
    )
    stubber.add_response("delete_change_set", {}, {"ChangeSetName": HANDLE})

    plan = backend.plan(STEP, DOCUMENT, PARAMETERS)

    assert (plan.new, plan.changes, plan.handle) == (False, (), "")


def test_a_deletion(stubber: Stubber, backend: CloudFormation) -> None:
    stubber.add_response("describe_stacks", stack("UPDATE_COMPLETE"), {"StackName": NAME})
    stubber.add_response(
        "delete_stack", {}, {"StackName": STACK_ID, "ClientRequestToken": "infra-1"}
    )
    for status in ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"):
        stubber.add_response("describe_stacks", stack(status), {"StackName": STACK_ID})

    backend.delete(STEP)


def test_what_only_a_change_set_has_made_is_removed(
    stubber: Stubber, backend: CloudFormation
) -> None:
    for _ in range(2):
        stubber.add_response("describe_stacks", stack("REVIEW_IN_PROGRESS"), {"StackName": NAME})
    stubber.add_response("delete_stack", {}, {"StackName": NAME, "ClientRequestToken": "infra-1"})

    backend.delete(STEP)
