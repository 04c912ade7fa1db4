"""The options of a topology, `[options]`: steps that are made only when they are asked for.

    cloudfront       CloudFront in front of the external API; its origin is the failover name
    readiness        ARC readiness checks, one for each pair of things that should be alike
    region-switch    a plan of ARC Region switch over everything with the switch "arc"

(A fourth, `accelerated_recovery`, is a parameter of the zone; whom alarms tell, `alarm_email` and
`alarm_topics`, is in `infra.notifications`.) Nothing needs these steps, and no move by `failover`
touches them. What the services add to the templates is filled in by `infra.option_templates`; what
each option costs and leaves open is in `docs/options.md`.

Downside: a plan of Region switch moves what `failover` moves, without its fence, its proofs and its
journal. Two tools for one thing; the page says which one to take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from infra.data_stacks import GLOBAL_DATABASE, database_step, has_database
from infra.naming import label, logical_id
from infra.steps import OutputRef, Stack, Value
from infra.topology import API, FRONT, Service, Topology

CLOUDFRONT, READINESS, REGION_SWITCH = "cloudfront", "readiness", "region-switch"
"""Names of the steps; their templates are called the same."""

CLOUDFRONT_REGION = "us-east-1"
"""Where CloudFront takes certificates from (CloudFront developer guide, "Requirements for using
SSL/TLS certificates with CloudFront")."""

READINESS_REGION = "us-west-2"
"""Where all readiness resources are (ARC developer guide, "Amazon Region availability for readiness
check")."""

ROLES = ("Primary", "Secondary")
_GROUP_LENGTH = 22
"""Of the 64 characters of a readiness name; a service's name has up to 31, `_functions` 10."""


def option_steps(topology: Topology, region: str) -> Iterator[Stack]:
    """The steps that the topology asks for; `region`: where stacks are that belong to none."""
    if topology.options.cloudfront:
        yield _cloudfront(topology)
    if topology.options.readiness:
        yield _readiness(topology)
    if topology.options.region_switch and topology.switched_by("arc"):
        yield _region_switch(topology, region)


def _cloudfront(topology: Topology) -> Stack:
    parameters: dict[str, Value] = {
        "HostName": topology.host(FRONT),
        "OriginName": topology.host(API),
        "HostedZoneId": OutputRef("zone", "HostedZoneId"),
    }
    # The name of the origin must be there before anybody is sent to it.
    return Stack(CLOUDFRONT, CLOUDFRONT_REGION, "cloudfront.yaml", parameters, (f"routing-{API}",))


def _readiness(topology: Topology) -> Stack:
    primary, secondary = topology.regions
    parameters: dict[str, Value] = {
        "GroupName": group_name(topology),
        "PrimaryRegion": primary,
        "SecondaryRegion": secondary,
        "ExternalStage": OutputRef(f"gateway-{primary}", "StageName"),
    }
    for role, region in zip(ROLES, topology.regions, strict=True):
        parameters[f"{role}ApiIds"] = (
            OutputRef(f"gateway-{region}", "RestApiId"),
            *(OutputRef(f"application-{name}-{region}", "RestAPIId") for name in topology.services),
        )
        if has_database(topology):
            parameters[f"{role}ClusterArn"] = OutputRef(database_step(region), "ClusterArn")
    return Stack(READINESS, READINESS_REGION, "readiness.yaml", parameters)


def group_name(topology: Topology) -> str:
    """First part of the names of readiness resources, which take letters, digits and underscores; a
    long domain is cut, and a piece of a hash keeps two of them apart."""
    name = label(topology).replace("-", "_")
    if len(name) <= _GROUP_LENGTH:
        return name
    return f"{name[: _GROUP_LENGTH - 5]}_{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def _region_switch(topology: Topology, region: str) -> Stack:
    primary, secondary = topology.regions
    parameters: dict[str, Value] = {
        "PlanName": label(topology)[:32].rstrip("-"),
        "PrimaryRegion": primary,
        "SecondaryRegion": secondary,
        "ClusterArn": OutputRef("cluster", "ClusterArn"),
    }
    if any(entry.database for entry in planned(topology)):
        parameters["GlobalClusterName"] = OutputRef(GLOBAL_DATABASE, "GlobalClusterName")
        for role, each in zip(ROLES, topology.regions, strict=True):  # cluster and proxy: one name
            parameters[f"{role}ClusterName"] = OutputRef(database_step(each), "ProxyName")
    for entry in planned(topology):
        for kind in kinds_of(entry):
            for role in ROLES:
                output = OutputRef(f"routing-{entry.name}", f"{kind}{role}ControlArn")
                parameters[control_parameter(entry, kind, role)] = output
    return Stack(REGION_SWITCH, region, "region-switch.yaml", parameters)


def planned(topology: Topology) -> tuple[Service, ...]:
    """What a plan of Region switch moves, in its order: the database's services, directly after the
    database, then the others, the external API last."""
    entries = topology.switched_by("arc")
    return tuple(sorted(entries, key=lambda entry: (entry.name == API, not entry.database)))


def kinds_of(entry: Service) -> tuple[str, ...]:
    """Beginnings of the outputs of routing.yaml: traffic's controls, and the database's."""
    return ("", "Database") if entry.database else ("",)


def control_parameter(entry: Service, kind: str, role: str) -> str:
    """Parameter of region-switch.yaml with one routing control."""
    return f"{logical_id(entry.name)}{kind}{role}"
