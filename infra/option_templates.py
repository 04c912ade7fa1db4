"""What the services of a topology add to the templates of its options.

`with_readiness` gives `readiness.yaml` two checks for each service: the stages of its API, and the
functions behind them, in both regions. `with_region_switch` gives `region-switch.yaml` a parameter
for each routing control, a step for each entry, and the right to switch exactly these.

A step of the plan is one block with all controls of an entry, so that a database's interlocks see
them move together. A block for each region would let a safety rule refuse the first.

Downside: that Region switch sends the controls of one block in one request is assumed; the
permissions that AWS asks for (`UpdateRoutingControlStates`, not the singular) say so.

Sources: ARC developer guide ("Resource types and ARN formats in ARC", "ARC routing control
execution block", "ARC routing controls execution block sample policy").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.naming import logical_id
from infra.options import ROLES, control_parameter, kinds_of, planned
from infra.stacks import CHALICE_API_STAGE
from infra.topology import Service, Topology

_READINESS = "AWS::Route53RecoveryReadiness"
_CONTROL = r"^arn:aws[a-z-]*:route53-recovery-control::[0-9]{12}:controlpanel/.+$"
_STEP_MINUTES = 10
_BELOW = "/routingcontrol/"


def with_readiness(document: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`readiness.yaml` with the checks of every service."""
    resources = dict(document["Resources"])
    for index, name in enumerate(topology.services, 1):  # 0 is the external API
        resources |= _pair(f"{logical_id(name)}Stages", name, "stages", "ApiGateway::Stage", index)
        resources |= _pair(f"{logical_id(name)}Functions", name, "functions", "Lambda::Function", 0)
    return {**document, "Resources": resources}


def _pair(
    resource: str, service: str, things: str, kind: str, index: int
) -> dict[str, dict[str, Any]]:
    """A set with one thing of each region, and the check that compares them."""
    name = {"Fn::Sub": f"${{GroupName}}_{service.replace('-', '_')}_{things}"}
    members = [
        {
            "ResourceArn": _stage(role, index) if index else _function(role, service),
            "ReadinessScopes": [{"Fn::GetAtt": [f"{role}Cell", "CellArn"]}],
        }
        for role in ROLES
    ]
    return {
        resource: {
            "Type": f"{_READINESS}::ResourceSet",
            "Properties": {
                "ResourceSetName": name,
                "ResourceSetType": f"AWS::{kind}",
                "Resources": members,
            },
        },
        f"{resource}Check": {
            "Type": f"{_READINESS}::ReadinessCheck",
            "Properties": {"ReadinessCheckName": name, "ResourceSetName": {"Ref": resource}},
        },
    }


def _stage(role: str, index: int) -> dict[str, Any]:
    """ARC's own form of a stage's ARN has the account in it."""
    text = (
        f"arn:${{AWS::Partition}}:apigateway:${{{role}Region}}:${{AWS::AccountId}}:"
        f"/restapis/${{Api}}/stages/{CHALICE_API_STAGE}"
    )
    return {"Fn::Sub": [text, {"Api": {"Fn::Select": [index, {"Ref": f"{role}ApiIds"}]}}]}


def _function(role: str, service: str) -> dict[str, Any]:
    """Chalice makes a function's name from application and stage, and the stage is the region."""
    region = f"${{{role}Region}}"
    return {
        "Fn::Sub": f"arn:${{AWS::Partition}}:lambda:{region}:${{AWS::AccountId}}"
        f":function:{service}-{region}"
    }


# ---- Region switch


def with_region_switch(document: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`region-switch.yaml` with a parameter for each control and a step for each entry."""
    entries = planned(topology)
    role, plan = (document["Resources"][name] for name in ("ExecutionRole", "Plan"))
    return {
        **document,
        "Parameters": {**document["Parameters"], **dict(_parameters(entries))},
        "Resources": {
            **document["Resources"],
            "ExecutionRole": {**role, "Properties": _allowed(role["Properties"], entries)},
            "Plan": {**plan, "Properties": _moving(plan["Properties"], entries, topology.regions)},
        },
    }


def _parameters(entries: tuple[Service, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    for entry in entries:
        for kind in kinds_of(entry):
            for role in ROLES:
                yield (
                    control_parameter(entry, kind, role),
                    {"Type": "String", "AllowedPattern": _CONTROL},
                )


def _allowed(properties: Mapping[str, Any], entries: tuple[Service, ...]) -> dict[str, Any]:
    """The role with the panels of the entries: each, and the controls below it, as one resource,
    because a role's policies have 10,240 characters."""
    switches, *others = properties["Policies"]
    document = switches["PolicyDocument"]
    (statement,) = document["Statement"]
    statement = {**statement, "Resource": [*statement["Resource"], *map(_panel, entries)]}
    switches = {**switches, "PolicyDocument": {**document, "Statement": [statement]}}
    return {**properties, "Policies": [switches, *others]}


def _panel(entry: Service) -> dict[str, Any]:
    parts = {"Fn::Split": [_BELOW, {"Ref": control_parameter(entry, "", ROLES[0])}]}
    return {"Fn::Sub": ["${Panel}*", {"Panel": {"Fn::Select": [0, parts]}}]}


def _moving(
    properties: Mapping[str, Any], entries: tuple[Service, ...], regions: tuple[str, ...]
) -> dict[str, Any]:
    (workflow,) = properties["Workflows"]
    steps = [*workflow["Steps"], *(_step(entry, regions) for entry in entries)]
    return {**properties, "Workflows": [{**workflow, "Steps": steps}]}


def _step(entry: Service, regions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "Name": entry.name,
        "ExecutionBlockType": "ARCRoutingControl",
        "ExecutionBlockConfiguration": {
            "ArcRoutingControlConfig": {
                "TimeoutMinutes": _STEP_MINUTES,
                "RegionAndRoutingControls": {
                    region: _states(entry, active)
                    for region, active in zip(regions, ROLES, strict=True)
                },
            }
        },
    }


def _states(entry: Service, active: str) -> list[dict[str, Any]]:
    """All controls of the entry as they are to be when the region of that role is activated."""
    return [
        {
            "RoutingControlArn": {"Ref": control_parameter(entry, kind, role)},
            "State": "On" if role == active else "Off",
        }
        for kind in kinds_of(entry)
        for role in ROLES
    ]
