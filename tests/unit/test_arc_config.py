"""The cluster out of a deployment, and what is refused at construction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.arc.config import read_cluster
from lab.arc.errors import ArcConfigError
from lab.arc.rules import RuleConfig, RuleType
from lab.model import Deployment, Resource

ROOT = "arn:aws:route53-recovery-control::111122223333:"
PANEL = ROOT + "controlpanel/" + "0f" * 16
DEFAULT = ROOT + "controlpanel/" + "dd" * 16
P, S, G = (f"{PANEL}/routingcontrol/{c * 16}" for c in "abc")
LOOSE = f"{DEFAULT}/routingcontrol/{'d' * 16}"


def resource(kind: str, physical_id: str, **properties: Any) -> Resource:
    return Resource(
        "routing",
        "us-west-2",
        kind + physical_id[-4:],
        "AWS::Route53RecoveryControl::" + kind,
        physical_id,
        properties,
        {},
    )


def rule(number: int = 1, **properties: Any) -> Resource:
    given = {
        "Name": f"rule-{number}",
        "ControlPanelArn": PANEL,
        "AssertionRule": {"AssertedControls": [P, S], "WaitPeriodMs": 0},
        "RuleConfig": {"Type": "ATLEAST", "Threshold": 1, "Inverted": False},
        **properties,
    }
    return resource("SafetyRule", f"{PANEL}/safetyrule/{number:016x}", **given)


BASE = (
    resource("Cluster", ROOT + "cluster/8d47920e-d789-437d-803a-2dcc4b204393", Name="shop"),
    resource("ControlPanel", PANEL, Name="service1"),
    resource("RoutingControl", P, Name="service1-a", ControlPanelArn=PANEL),
    resource("RoutingControl", S, Name="service1-b", ControlPanelArn=PANEL),
    resource("RoutingControl", G, Name="service1-gate", ControlPanelArn=PANEL),
    resource("RoutingControl", LOOSE, Name="loose", ClusterArn=ROOT + "cluster/8d47920e"),
)


def problems(*resources: Resource) -> list[str]:
    with pytest.raises(ArcConfigError) as caught:
        read_cluster(Deployment(resources, {}))
    return list(caught.value.problems)


def test_reads_panels_controls_and_rules() -> None:
    gating = rule(
        2,
        AssertionRule=None,
        GatingRule={"GatingControls": [G], "TargetControls": [P, S], "WaitPeriodMs": "5000"},
        RuleConfig={"Type": "OR", "Threshold": "0", "Inverted": "false"},
    )
    cluster = read_cluster(Deployment((*BASE, rule(), gating), {}))
    assert list(cluster.controls) == [P, S, G, LOOSE]
    assert cluster.controls[P].owner == "111122223333"
    assert cluster.rules[0].watched == (P, S)
    assert cluster.rules[0].gating == ()
    assert cluster.rules[1].gating == (G,)
    assert cluster.rules[1].wait_period_ms == 5000
    assert cluster.rules[1].config == RuleConfig(RuleType.OR, 0, False)


def test_a_control_without_panel_is_in_the_default_panel() -> None:
    cluster = read_cluster(Deployment(BASE, {}))
    assert cluster.controls[LOOSE].panel_arn == DEFAULT
    assert cluster.panels == {PANEL: "service1", DEFAULT: "DefaultControlPanel"}


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_cluster(count: int) -> None:
    second = replace(BASE[0], physical_id=ROOT + "cluster/second")
    assert problems(*(BASE[0], second)[:count], *BASE[1:]) == [
        f"the deployment has {count} clusters; the lab runs exactly one"
    ]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"AssertionRule": None}, "exactly one of AssertionRule and GatingRule"),
        ({"GatingRule": {"GatingControls": [G]}}, "exactly one of AssertionRule and GatingRule"),
        ({"RuleConfig": {"Type": "ATLEAST"}}, "lacks Inverted, Threshold"),
        ({"RuleConfig": None}, "lacks Inverted, Threshold, Type"),
        (
            {"RuleConfig": {"Type": "MOST", "Threshold": 1, "Inverted": False}},
            "must be one of ATLEAST, AND, OR",
        ),
        (
            {"RuleConfig": {"Type": "ATLEAST", "Threshold": 0, "Inverted": True}},
            "never true",
        ),
        (
            {"RuleConfig": {"Type": "ATLEAST", "Threshold": 3, "Inverted": False}},
            "never true",
        ),
        (
            {"RuleConfig": {"Type": "ATLEAST", "Threshold": -1, "Inverted": False}},
            "Threshold must be a whole number",
        ),
        ({"AssertionRule": {"AssertedControls": [P], "WaitPeriodMs": -1}}, "WaitPeriodMs"),
        ({"AssertionRule": {"AssertedControls": [P]}}, "WaitPeriodMs"),
        ({"AssertionRule": {"AssertedControls": [], "WaitPeriodMs": 0}}, "is empty"),
        ({"AssertionRule": {"AssertedControls": [P, P], "WaitPeriodMs": 0}}, "more than once"),
        ({"AssertionRule": {"AssertedControls": [LOOSE], "WaitPeriodMs": 0}}, "another control"),
        ({"AssertionRule": {"AssertedControls": ["arn:x"], "WaitPeriodMs": 0}}, "unknown"),
        ({"Name": "two words"}, "no blanks"),
    ],
)
def test_unusable_rules_are_refused_by_name(properties: dict[str, Any], expected: str) -> None:
    found = problems(*BASE, rule(**properties))
    assert any(expected in problem for problem in found), found


@pytest.mark.semantics(33)
def test_every_problem_is_reported_at_once() -> None:
    twin = replace(BASE[3], physical_id=f"{PANEL}/routingcontrol/{'e' * 16}")
    found = problems(*BASE, twin, rule(1), rule(2, Name="rule-1"), rule(3, AssertionRule=None))
    assert found == [
        "safety rule rule-3: needs exactly one of AssertionRule and GatingRule",
        f"routing control service1-b: the name is used twice in {PANEL}",
        f"safety rule rule-1: the name is used twice in {PANEL}",
    ]
