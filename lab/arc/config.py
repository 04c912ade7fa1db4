"""Reads the cluster's configuration out of a deployment, and refuses what AWS would not create.

Only what the data plane needs is read. Quotas of the control plane (panels per cluster, controls
per panel) are not checked here; the downside is that a topology which needs a raised quota on AWS
runs in the lab without a word.

Sources: CloudFormation AWS::Route53RecoveryControl::* pages; API CreateSafetyRule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab.arc.errors import ArcConfigError
from lab.arc.rules import ClusterConfig, RoutingControl, RuleConfig, RuleType, SafetyRule
from lab.model import Deployment, Resource

_PREFIX = "AWS::Route53RecoveryControl::"
_NAME = re.compile(r"\S{1,64}")
_CONTROL_ARN = re.compile(
    r"(arn:[^:]+:route53-recovery-control::\d{12}:controlpanel/[0-9a-z]+)/"
    r"(?:routingcontrol|safetyrule)/[0-9a-z]+"
)
DEFAULT_PANEL = "DefaultControlPanel"


def has_cluster(deployment: Deployment) -> bool:
    """Is there a cluster at all? Without a service that has the switch "arc" there is none."""
    return bool(deployment.of_type(_PREFIX + "Cluster"))


def read_cluster(deployment: Deployment) -> ClusterConfig:
    """The configuration of the deployment's one cluster.

    Raises ArcConfigError with every problem found: no cluster or several, bad or repeated names,
    rules over unknown controls or over another panel's, thresholds that lock a panel.
    """
    problems: list[str] = []
    clusters = deployment.of_type(_PREFIX + "Cluster")
    if len(clusters) != 1:
        problems.append(f"the deployment has {len(clusters)} clusters; the lab runs exactly one")
    panels = {
        r.physical_id: str(r.properties.get("Name", ""))
        for r in deployment.of_type(_PREFIX + "ControlPanel")
    }
    controls: dict[str, RoutingControl] = {}
    for resource in deployment.of_type(_PREFIX + "RoutingControl"):
        control = RoutingControl(
            resource.physical_id, str(resource.properties.get("Name", "")), _panel(resource)
        )
        panels.setdefault(control.panel_arn, DEFAULT_PANEL)
        controls[control.arn] = control
        if not _CONTROL_ARN.fullmatch(control.arn):
            problems.append(f"routing control {control.name} has no usable ARN: {control.arn!r}")
    rules = []
    for resource in deployment.of_type(_PREFIX + "SafetyRule"):
        faults = list(_rule_faults(resource, controls))
        problems += faults
        if not faults:
            rules.append(_rule(resource))
    problems += _name_faults("control panel", [("the cluster", n) for n in panels.values()])
    problems += _name_faults("routing control", [(c.panel_arn, c.name) for c in controls.values()])
    problems += _name_faults("safety rule", [(r.panel_arn, r.name) for r in rules])
    if problems:
        raise ArcConfigError(problems)
    return ClusterConfig(clusters[0].physical_id, panels, controls, tuple(rules))


def _panel(resource: Resource) -> str:
    """The control panel's ARN: as given, or (default panel) as the resource's own ARN tells."""
    given = resource.properties.get("ControlPanelArn")
    if given:
        return str(given)
    match = _CONTROL_ARN.fullmatch(resource.physical_id)
    return match[1] if match else ""


def _rule(resource: Resource) -> SafetyRule:
    properties = resource.properties
    config = properties["RuleConfig"]
    body = properties.get("AssertionRule") or properties["GatingRule"]
    return SafetyRule(
        arn=resource.physical_id,
        name=str(properties["Name"]),
        panel_arn=_panel(resource),
        watched=tuple(body.get("AssertedControls") or body["TargetControls"]),
        gating=tuple(body.get("GatingControls", ())),
        config=RuleConfig(
            RuleType(config["Type"]), int(config["Threshold"]), _boolean(config["Inverted"])
        ),
        wait_period_ms=int(body["WaitPeriodMs"]),
    )


def _boolean(value: object) -> bool:
    """CloudFormation hands parameters over as text."""
    return value is True or str(value).lower() == "true"


def _rule_faults(resource: Resource, controls: Mapping[str, RoutingControl]) -> Iterator[str]:
    properties = resource.properties
    where = f"safety rule {properties.get('Name', resource.logical_id)}"
    bodies = [key for key in ("AssertionRule", "GatingRule") if properties.get(key)]
    if len(bodies) != 1:
        yield f"{where}: needs exactly one of AssertionRule and GatingRule"
        return
    if not _CONTROL_ARN.fullmatch(resource.physical_id):
        yield f"{where}: has no usable ARN: {resource.physical_id!r}"
    body: Mapping[str, Any] = properties[bodies[0]]
    lists = (
        ["AssertedControls"]
        if bodies == ["AssertionRule"]
        else [
            "GatingControls",
            "TargetControls",
        ]
    )
    for key in lists:
        yield from _list_faults(f"{where}: {key}", body.get(key), controls, _panel(resource))
    if not _is_whole(body.get("WaitPeriodMs")):
        yield f"{where}: WaitPeriodMs must be a whole number of milliseconds, 0 or more"
    evaluated = body.get(lists[0]) or ()
    yield from _config_faults(where, properties.get("RuleConfig"), len(evaluated))


def _list_faults(
    where: str, arns: Sequence[str] | None, controls: Mapping[str, RoutingControl], panel: str
) -> Iterator[str]:
    if not arns:
        yield f"{where} is empty"
        return
    if len(set(arns)) != len(arns):
        yield f"{where} names a routing control more than once"
    for arn in arns:
        if arn not in controls:
            yield f"{where} names an unknown routing control: {arn}"
        elif controls[arn].panel_arn != panel:
            yield f"{where} names {controls[arn].name}, which is in another control panel"


def _config_faults(where: str, config: Mapping[str, Any] | None, total: int) -> Iterator[str]:
    missing = {"Type", "Threshold", "Inverted"} - (config or {}).keys()
    if config is None or missing:
        yield f"{where}: RuleConfig lacks {', '.join(sorted(missing))}"
        return
    if config["Type"] not in set(RuleType):
        yield f"{where}: RuleConfig.Type must be one of {', '.join(RuleType)}"
        return
    if not _is_whole(config["Threshold"]):
        yield f"{where}: RuleConfig.Threshold must be a whole number, 0 or more"
        return
    threshold = int(config["Threshold"])
    if config["Type"] == RuleType.ATLEAST:
        inverted = _boolean(config["Inverted"])
        if threshold < 1 and inverted:
            yield f"{where}: ATLEAST {threshold} inverted is never true and would lock them"
        if threshold > total and not inverted:
            yield f"{where}: ATLEAST {threshold} of {total} is never true and would lock them"


def _is_whole(value: object) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"\d{1,9}", str(value)) is not None


def _name_faults(kind: str, names: Sequence[tuple[str, str]]) -> Iterator[str]:
    seen: set[tuple[str, str]] = set()
    for scope, name in names:
        if not _NAME.fullmatch(name):
            yield f"{kind} {name!r}: a name has 1 to 64 characters and no blanks"
        if (scope, name) in seen:
            yield f"{kind} {name}: the name is used twice in {scope}"
        seen.add((scope, name))
