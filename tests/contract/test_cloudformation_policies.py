"""infra/policies/cloudformation-*.json: the role with which CloudFormation makes what is in the
stacks may do what the resource types' providers ask for, no less and no more.

Where they come from: `provider_permissions_support`, which also writes them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from iam_support import allows, listed
from provider_permissions_support import (
    ACCOUNT,
    ADDED,
    API_GATEWAY,
    ARNS,
    HANDLERS,
    NOT_NEEDED,
    NOT_NEEDED_BY,
    NOT_NEEDED_IN,
    PARTS,
    POLICIES,
    REMOVED_BY_TAG,
    REMOVES,
    SPECIAL,
    asked_for,
    policy,
    required,
    schema,
    types_of,
)

FILES: dict[str, dict[str, Any]] = {
    part: json.loads((POLICIES / f"cloudformation-{part}.json").read_text()) for part in PARTS
}
STATEMENTS = [statement for document in FILES.values() for statement in document["Statement"]]
ALL_TYPES = {kind for part in PARTS for kind in types_of(part)}
TAG = "aws:ResourceTag/two-region-api:domain"

each = pytest.mark.parametrize("part", PARTS)


def actions(part: str) -> set[str]:
    return {a for s in FILES[part]["Statement"] for a in listed(s["Action"])}


@each
def test_a_file_is_what_the_templates_and_the_schemas_come_to(part: str) -> None:
    """If this fails after a change of a template: run the module that makes them, and read what
    changed."""
    assert FILES[part] == policy(part)


@each
def test_nothing_that_a_handler_calls_is_missing_and_nothing_else_is_allowed(part: str) -> None:
    asked = {action for kind in types_of(part) for action in asked_for(kind)}
    assert actions(part) == required(part)
    assert actions(part) - asked == set(ADDED.get(part, ()))


def test_every_type_of_every_template_says_what_its_handlers_call() -> None:
    silent = {kind for kind in ALL_TYPES if not schema(kind).get("handlers")}
    assert silent == {"AWS::CloudFormation::WaitConditionHandle"}  # it makes nothing
    short = {
        kind: missing
        for kind in ALL_TYPES - silent
        if (missing := set(HANDLERS) - {"update"} - schema(kind)["handlers"].keys())
    }
    assert short == {"AWS::SNS::TopicPolicy": {"read"}}  # an attribute of the topic


def test_every_exception_is_one_and_has_its_reason() -> None:
    asked = {(kind, action) for kind in ALL_TYPES for action in asked_for(kind)}
    for begin in NOT_NEEDED:
        assert any(action.startswith(begin) for _, action in asked), begin
    for of, begin in NOT_NEEDED_BY:
        assert any(kind == of and action.startswith(begin) for kind, action in asked), (of, begin)
    for part, action in NOT_NEEDED_IN:
        assert any(kind in types_of(part) and action == each for kind, each in asked), action
    reasons = [*NOT_NEEDED.values(), *NOT_NEEDED_BY.values(), *NOT_NEEDED_IN.values()]
    assert all(len(reason.split()) >= 2 for reason in reasons)


def test_every_name_of_a_resource_is_used() -> None:
    resources = {arn for statement in STATEMENTS for arn in listed(statement["Resource"])}
    named = {arn for kinds in ARNS.values() for arns in kinds.values() for arn in arns}
    assert {*named, *API_GATEWAY} <= resources
    assert {a for part in PARTS for a in actions(part)} >= {*REMOVED_BY_TAG, *SPECIAL}


def test_what_has_a_made_up_id_is_removed_only_with_the_deployments_tag() -> None:
    for action in REMOVED_BY_TAG:
        for statement in STATEMENTS:
            if action in listed(statement["Action"]):
                assert statement["Sid"] == REMOVES
                assert statement["Condition"] == {"StringEquals": {TAG: "example.com"}}


@pytest.mark.parametrize(
    ("action", "resource", "context", "may"),
    [
        ("rds:DeleteDBCluster", "arn:aws:rds:us-east-1:{}:cluster:db-example-com-us-east-1", {}, 1),
        ("rds:DeleteDBCluster", "arn:aws:rds:us-east-1:{}:cluster:of-others", {}, 0),
        ("ec2:DeleteVpc", "arn:aws:ec2:us-east-1:{}:vpc/vpc-1", {TAG: "example.com"}, 1),
        ("ec2:DeleteVpc", "arn:aws:ec2:us-east-1:{}:vpc/vpc-1", {TAG: "other.com"}, 0),
        ("ec2:DeleteVpc", "arn:aws:ec2:us-east-1:{}:vpc/vpc-1", {}, 0),
        ("ec2:CreateVpc", "arn:aws:ec2:eu-west-1:{}:vpc/*", {}, 0),
        ("iam:PutRolePolicy", "arn:aws:iam::{}:role/administrator", {}, 0),
        ("iam:AttachRolePolicy", "arn:aws:iam::{}:role/example-com-logging-us-east-1-LogRole-1",
         {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"}, 0),
        ("iam:PassRole", "arn:aws:iam::{}:role/example-com-x", {}, 0),
        ("iam:CreateUser", "arn:aws:iam::{}:user/a", {}, 0),
        ("kms:Decrypt", "arn:aws:kms:us-east-1:{}:key/1", {}, 0),
        ("kms:Decrypt", "arn:aws:kms:us-east-1:{}:key/1",
         {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}, 1),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:us-east-1:{}:secret:x", {}, 0),
        ("apigateway:DELETE", "arn:aws:apigateway:us-east-1::/domainnames/api.other.com", {}, 0),
        ("logs:DeleteLogGroup", "arn:aws:logs:us-east-1:{}:log-group:/aws/lambda/a", {}, 0),
        ("route53-recovery-cluster:UpdateRoutingControlStates",
         "arn:aws:route53-recovery-control::{}:controlpanel/a/routingcontrol/b", {}, 0),
        ("sns:DeleteTopic", "arn:aws:sns:us-west-2:{}:example-com-alarms", {}, 1),
        ("sns:DeleteTopic", "arn:aws:sns:us-west-2:{}:of-others", {}, 0),
        ("sns:Publish", "arn:aws:sns:us-west-2:{}:example-com-alarms", {}, 0),
        ("cloudformation:CreateStack", "arn:aws:cloudformation:us-east-1:{}:stack/a/1", {}, 0),
    ],
)  # fmt: skip
def test_what_the_role_may_do(
    action: str, resource: str, context: dict[str, str], may: int
) -> None:
    whole = {"Statement": STATEMENTS}
    assert allows(whole, action, resource.format(ACCOUNT), context) is bool(may)
