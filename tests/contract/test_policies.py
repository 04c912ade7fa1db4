"""infra/policies: grammar, real actions, no unexplained wildcard, and no more than the tools call.

The chalice part of the deployer's policy is compared with recorded calls in test_chalice_deploy,
the rest of it in test_infra_end_to_end, those of CloudFormation's role in
test_cloudformation_policies.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from iam_actions_support import kinds
from iam_support import allows, listed, policy_faults

ROOT = Path(__file__).resolve().parents[2]
POLICIES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in (ROOT / "infra/policies").glob("*.json")
}
PAGE = (ROOT / "docs/permissions.md").read_text()
NO_OPERATIONS = {
    "cloudformation:TagResource", "iam:PassRole", "lambda:InvokeFunction",
    "s3:DeleteObjectVersion", "s3:ListBucketVersions",
}  # fmt: skip
"""Actions that are asked for by operations of another name."""
KINDS = kinds()
"""Action -> the kinds of resource that it knows (Service Authorization Reference)."""
METHODS = {"DELETE", "GET", "PATCH", "POST", "PUT"}
"""What API Gateway's actions are named after (Service Authorization Reference)."""
CONTROL = "arn:aws:route53-recovery-control::111122223333:controlpanel/a/routingcontrol/b"
UPDATE = "route53-recovery-cluster:UpdateRoutingControlStates"
OVERRIDE = "route53-recovery-cluster:AllowSafetyRulesOverrides"
DATA_PLANES = {
    "route53-recovery-cluster": "arc_transport",
    "rds": "rds",
    "cloudwatch": "cloudwatch",
}
"""Prefix of the actions -> the module of `failover` that calls them."""
PUBLISH, NAMESPACE = "cloudwatch:PutMetricData", "cloudwatch:namespace"

each = pytest.mark.parametrize("name", sorted(POLICIES))


def actions(policy: dict[str, Any], effect: str = "Allow") -> set[str]:
    return {
        action
        for statement in policy["Statement"]
        if statement["Effect"] == effect
        for action in listed(statement["Action"])
    }


def operations(service: str) -> dict[str, str]:
    """Python's name of an operation -> AWS's."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


def called_by_failover() -> set[str]:
    """The actions of the data planes whose operations `failover` names in its transports."""
    found = set()
    for service, module in DATA_PLANES.items():
        tree = ast.parse((ROOT / f"failover/{module}.py").read_text())
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        known = operations(service)
        found |= {f"{service}:{known[text]}" for text in texts if text in known}
    return found


def is_read(action: str) -> bool:
    return action.partition(":")[2].startswith(("Describe", "Get", "List"))


def test_there_is_one_file_for_each_party() -> None:
    assert {"deployer", "operator", "observer", "break-glass"} <= POLICIES.keys()


@each
def test_it_is_a_policy(name: str) -> None:
    assert list(policy_faults(POLICIES[name])) == []
    assert all(statement["Sid"] for statement in POLICIES[name]["Statement"])


@each
def test_it_is_small_enough_to_be_attached(name: str) -> None:
    """6,144 characters without white space for a managed policy (IAM user guide, "IAM and AWS STS
    quotas")."""
    assert len(json.dumps(POLICIES[name], separators=(",", ":"))) <= 6_144


@each
def test_its_actions_exist(name: str) -> None:
    unknown = []
    for action in sorted(actions(POLICIES[name]) | actions(POLICIES[name], "Deny")):
        service, _, operation = action.partition(":")
        if service == "apigateway":
            known = operation in METHODS
        else:
            known = action in NO_OPERATIONS or operation in operations(service).values()
            known = known and action in KINDS
        if not known:
            unknown.append(action)
    assert unknown == []


# --- wildcards


def wildcards() -> Iterator[tuple[str, str, str]]:
    """Policy, statement and resource of every permission that is not for one thing by name."""
    for name, policy in sorted(POLICIES.items()):
        for statement in policy["Statement"]:
            if statement["Effect"] == "Allow":
                for resource in listed(statement["Resource"]):
                    if "*" in resource:
                        yield name, statement["Sid"], resource


def explained() -> dict[tuple[str, str], str]:
    """Policy and statement -> reason, from the page's table of wildcards."""
    _, _, section = PAGE.partition("\n## Wildcards")
    rows = re.findall(r"^\| (\S+) \| `(\w+)` \| (.+?) \|$", section, re.MULTILINE)
    return {
        (name, sid): reason
        for names, sid, reason in rows
        for name in names.replace(",", " ").split()
    }


def test_no_action_is_a_wildcard() -> None:
    for policy in POLICIES.values():
        assert not [a for effect in ("Allow", "Deny") for a in actions(policy, effect) if "*" in a]


def test_every_wildcard_has_its_reason_on_the_page() -> None:
    reasons = explained()
    assert {(name, sid) for name, sid, _ in wildcards()} == reasons.keys()
    assert all(len(reason.split()) >= 4 for reason in reasons.values())


def test_no_resource_is_a_wildcard_where_a_name_would_do() -> None:
    """`*` alone only for actions that know no resources, and for reading where nobody knows ids."""
    free = {
        action
        for policy in POLICIES.values()
        for statement in policy["Statement"]
        if "*" in listed(statement["Resource"]) and statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    changing = [action for action in sorted(free) if not is_read(action)]
    assert [action for action in changing if KINDS[action]] == []
    assert PUBLISH in changing  # a condition names its namespace


@each
def test_an_action_that_knows_no_resources_is_not_tied_to_one(name: str) -> None:
    """AWS would never allow it: such an action is asked for on `*`."""
    tied = {
        action
        for statement in POLICIES[name]["Statement"]
        if statement["Effect"] == "Allow" and listed(statement["Resource"]) != ["*"]
        for action in listed(statement["Action"])
        if not action.startswith("apigateway:") and not KINDS[action]
    }
    assert tied == set()


def test_no_action_is_recorded_that_no_policy_has() -> None:
    assert KINDS.keys() == {
        action
        for policy in POLICIES.values()
        for effect in ("Allow", "Deny")
        for action in actions(policy, effect)
        if not action.startswith("apigateway:")
    }


# --- who may do what


def test_the_operator_may_do_exactly_what_failover_calls() -> None:
    assert actions(POLICIES["operator"]) == called_by_failover()


def test_the_observer_may_do_what_failover_reads() -> None:
    assert actions(POLICIES["observer"]) == {a for a in called_by_failover() if is_read(a)}
    assert actions(POLICIES["observer"]) >= {
        "route53-recovery-cluster:ListRoutingControls", "rds:DescribeGlobalClusters",
    }  # fmt: skip


def test_breaking_the_glass_is_the_operators_work_without_the_guard() -> None:
    assert actions(POLICIES["break-glass"]) == actions(POLICIES["operator"])
    assert not actions(POLICIES["break-glass"], "Deny")


@pytest.mark.parametrize(
    ("name", "context", "may"),
    [
        ("operator", {}, True),
        ("operator", {OVERRIDE: "false"}, True),
        ("operator", {OVERRIDE: "true"}, False),
        ("break-glass", {}, True),
        ("break-glass", {OVERRIDE: "false"}, True),
        ("break-glass", {OVERRIDE: "true"}, True),
        ("observer", {OVERRIDE: "false"}, False),
        ("deployer", {}, True),
        ("deployer", {OVERRIDE: "true"}, False),
        ("cloudformation-traffic", {}, False),
    ],
)
def test_who_may_move_and_who_may_override(name: str, context: dict[str, str], may: bool) -> None:
    assert allows(POLICIES[name], UPDATE, CONTROL, context) is may


def test_another_policy_beside_the_operators_gives_no_override() -> None:
    """A Deny wins over any Allow that is attached to the same user."""
    everything = {"Effect": "Allow", "Action": "route53-recovery-cluster:*", "Resource": "*"}
    both = {"Statement": [*POLICIES["operator"]["Statement"], everything]}
    assert not allows(both, UPDATE, CONTROL, {OVERRIDE: "true"})
    assert not allows(both, UPDATE.removesuffix("s"), CONTROL, {OVERRIDE: "true"})


@pytest.mark.parametrize("action", ["rds:SwitchoverGlobalCluster", "rds:FailoverGlobalCluster"])
@pytest.mark.parametrize(
    ("name", "cluster", "may"),
    [
        ("operator", "CLUSTER_IN_US_WEST_2", True),
        ("operator", "of-somebody-else", False),
        ("break-glass", "CLUSTER_IN_US_WEST_2", True),
        ("observer", "CLUSTER_IN_US_WEST_2", False),
    ],
)
def test_who_may_move_the_database(action: str, name: str, cluster: str, may: bool) -> None:
    arn = f"arn:aws:rds:us-west-2:111122223333:cluster:{cluster}"
    assert allows(POLICIES[name], action, arn) is may


@pytest.mark.parametrize(
    ("name", "namespace", "may"),
    [
        ("operator", "TwoRegionApi", True),
        ("break-glass", "TwoRegionApi", True),
        ("operator", "AWS/ApiGateway", False),
        ("operator", "", False),
        ("break-glass", "OfSomebodyElse", False),
        ("observer", "TwoRegionApi", False),
        ("deployer", "TwoRegionApi", False),
    ],
)
def test_who_may_take_services_over(name: str, namespace: str, may: bool) -> None:
    context = {NAMESPACE: namespace} if namespace else {}
    assert allows(POLICIES[name], PUBLISH, "*", context) is may


def test_the_namespace_is_that_of_the_templates_alarms() -> None:
    template = (ROOT / "infra/templates/takeover.yaml").read_text()
    (condition,) = [
        s["Condition"]["StringEquals"][NAMESPACE]
        for s in POLICIES["operator"]["Statement"]
        if s["Action"] == PUBLISH
    ]
    assert f"      Namespace: {condition}\n" in template


def test_nobody_may_delete_data() -> None:
    for policy in POLICIES.values():
        for action in ("rds:DeleteDBCluster", "rds:RemoveFromGlobalCluster", "kms:Decrypt"):
            assert not allows(policy, action, "arn:aws:rds:us-east-1:111122223333:cluster:a")


def test_the_operators_file_is_the_policy_of_the_page_and_the_deny() -> None:
    (shown, *_) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    statements = POLICIES["operator"]["Statement"]
    assert json.loads(shown)["Statement"] == statements[:-1]
    assert statements[-1]["Effect"] == "Deny"
