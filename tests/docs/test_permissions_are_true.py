"""The policies of docs/permissions.md are what the code needs: no action more, none missing."""

from __future__ import annotations

import ast
import json
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from docs_support import ROOT, fenced

PAGE = (ROOT / "docs/permissions.md").read_text()
POLICY: dict[str, Any] = json.loads(fenced(PAGE, "json")[0])
CALLED_FROM = {
    "route53-recovery-cluster": "failover/arc_transport.py",
    "rds": "failover/rds.py",
    "cloudwatch": "failover/cloudwatch.py",
}
"""AWS service, which is also the prefix of its IAM actions -> the only module that calls it."""


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def granted(service: str) -> set[str]:
    actions = [a for s in POLICY["Statement"] for a in listed(s["Action"])]
    return {action.partition(":")[2] for action in actions if action.startswith(f"{service}:")}


def called(service: str) -> set[str]:
    """The operations whose Python names stand as text in the module."""
    session = botocore.session.get_session()
    known = {xform_name(o): o for o in session.get_service_model(service).operation_names}
    tree = ast.parse((ROOT / CALLED_FROM[service]).read_text())
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    return {known[text] for text in texts if text in known}


@pytest.mark.parametrize("service", CALLED_FROM)
def test_the_operator_may_do_exactly_what_the_tool_does(service: str) -> None:
    assert called(service)
    assert granted(service) == called(service)


def test_the_operator_can_never_override_a_safety_rule() -> None:
    updates = [s for s in POLICY["Statement"] if "Update" in json.dumps(s["Action"])]
    key = "route53-recovery-cluster:AllowSafetyRulesOverrides"
    assert [s["Condition"] for s in updates] == [{"BoolIfExists": {key: "false"}}]


def test_every_action_of_a_service_is_explained() -> None:
    policies = sorted((ROOT / "services").glob("*/.chalice/policy*.json"))
    assert policies
    used = {
        action
        for path in policies
        for statement in json.loads(path.read_text())["Statement"]
        for action in listed(statement["Action"])
    }
    assert not sorted(action for action in used if f"`{action}`" not in PAGE)
