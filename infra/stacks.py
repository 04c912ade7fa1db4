"""The ordered list of steps that deploys a topology: CloudFormation stacks and Chalice deployments.

`stack_list` is pure: the same topology gives the same steps. A step names what it needs from other
steps by `OutputRef`, so the order is not a convention: `needs` of a step are the steps that must be
done before, and steps that do not need each other may run at the same time. The list itself is one
valid order.

Where things lie: what is regional (certificate, custom domains, applications, the external API) has
one step per region; what is not (zone, cluster, switches) lies in `global_region`, never in the
primary if that can be helped, so that losing the primary does not take the stacks with it.

Downside: a step per service, region and concern makes many small stacks: eight steps per service,
some 410 for 50 services, within the default quota of 2,000 stacks per region.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from infra import data_stacks, monitoring, pipeline
from infra.steps import (
    Application,
    OutputRef,
    Stack,
    Step,
    Text,
    Value,
    WiringError,
    network_of,
    parameters_of,
)
from infra.topology import API, Service, Topology

__all__ = [
    "API", "Application", "OutputRef", "Stack", "Step", "Text", "Value", "WiringError",
    "network_of", "parameters_of", "stack_list",
]  # fmt: skip

ARC_TYPE_REGIONS = ("us-east-1", "us-west-2")
"""Regions in which CloudFormation has the types of ARC (its resource type specification)."""

CHALICE_API_STAGE = "api"
"""The API Gateway stage that every Chalice application gets (Chalice's default, written out)."""

DEFAULT_WAIT_PERIOD_MS = 5000
"""Wait period of every safety rule (API reference of recovery control configuration)."""


def global_region(topology: Topology) -> str:
    """Region of the stacks that belong to no region: the secondary where ARC's types exist there,
    else us-west-2, which is also where ARC's control plane is."""
    secondary = topology.regions[1]
    return secondary if secondary in ARC_TYPE_REGIONS else "us-west-2"


# Names of the steps; other modules use these instead of spelling the names again.
ZONE = "zone"
CLUSTER = "cluster"


def certificate_step(region: str) -> str:
    return f"certificate-{region}"


def domain_step(service: str, region: str) -> str:
    return f"domain-{service}-{region}"


def application_step(service: str, region: str) -> str:
    return f"application-{service}-{region}"


def mapping_step(service: str, region: str) -> str:
    return f"mapping-{service}-{region}"


def routing_step(service: str) -> str:
    return f"routing-{service}"


def gateway_step(region: str) -> str:
    return f"gateway-{region}"


def stack_list(
    topology: Topology,
    *,
    existing_hosted_zone_id: str = "",
    wait_period_ms: int = DEFAULT_WAIT_PERIOD_MS,
) -> tuple[Step, ...]:
    """All steps of `topology` in an order in which every step comes after those it needs.

    `existing_hosted_zone_id`: use this zone instead of creating one.
    `wait_period_ms`: of every safety rule, in milliseconds.
    """
    steps: list[Step] = list(_foundations(topology, existing_hosted_zone_id))
    steps.extend(data_stacks.data_steps(topology))
    for service in topology.services.values():
        steps.extend(_domains(topology, service.name))
        steps.extend(_applications(topology, service))
        for region in topology.regions:
            application = application_step(service.name, region)
            api = OutputRef(application, "RestAPIId")
            steps.append(_mapping(service.name, region, api, CHALICE_API_STAGE))
        steps.append(_routing(topology, service, wait_period_ms))
    steps.extend(_domains(topology, API))
    for region in topology.regions:
        gateway = Stack(
            gateway_step(region),
            region,
            "gateway.yaml",
            {"ApiName": f"{API}.{topology.domain}"},
        )
        api, stage = OutputRef(gateway.name, "RestApiId"), OutputRef(gateway.name, "StageName")
        steps += [gateway, _mapping(API, region, api, stage)]
    steps.append(_routing(topology, topology.api, wait_period_ms))
    steps.extend(monitoring.monitoring_steps(topology, global_region(topology)))
    steps.extend(pipeline.pipeline_steps(topology, global_region(topology)))
    return tuple(steps)


def _foundations(topology: Topology, existing_hosted_zone_id: str) -> Iterator[Stack]:
    shared = global_region(topology)
    zone = {"Domain": topology.domain}
    if existing_hosted_zone_id:
        zone["ExistingHostedZoneId"] = existing_hosted_zone_id
    yield Stack(ZONE, shared, "zone.yaml", zone)
    for region in topology.regions:
        yield Stack(
            certificate_step(region),
            region,
            "certificate.yaml",
            {"Domain": topology.domain, "HostedZoneId": OutputRef(ZONE, "HostedZoneId")},
        )
    name = topology.domain.replace(".", "-")[:64]
    yield Stack(CLUSTER, shared, "cluster.yaml", {"ClusterName": name})


def _domains(topology: Topology, service: str) -> Iterator[Stack]:
    for region in topology.regions:
        yield Stack(
            domain_step(service, region),
            region,
            "domain.yaml",
            {
                "ServiceName": service,
                "Domain": topology.domain,
                "HostedZoneId": OutputRef(ZONE, "HostedZoneId"),
                "CertificateArn": OutputRef(certificate_step(region), "CertificateArn"),
            },
        )


def _applications(topology: Topology, service: Service) -> Iterator[Application]:
    for region in topology.regions:
        environment: dict[str, Value] = {"SERVICE_NAME": service.name}
        if service.folder == "health":
            siblings = {
                name: f"https://{topology.pinned_host(name, region)}"
                for name, other in topology.services.items()
                if other.folder != "health"
            }
            environment["DEPENDENCIES"] = json.dumps(siblings)
        network: dict[str, Value] = {}
        if service.database:
            environment |= data_stacks.environment(topology, region)
            network = data_stacks.network(region)
        name = application_step(service.name, region)
        yield Application(name, service.name, service.folder, region, environment, network=network)


def _mapping(service: str, region: str, rest_api: OutputRef, stage: Value) -> Stack:
    domain = domain_step(service, region)
    return Stack(
        mapping_step(service, region),
        region,
        "mapping.yaml",
        {
            "DomainName": OutputRef(domain, "DomainName"),
            "PinnedDomainName": OutputRef(domain, "PinnedDomainName"),
            "RestApiId": rest_api,
            "StageName": stage,
        },
    )


def _routing(topology: Topology, service: Service, wait_period_ms: int) -> Stack:
    parameters: dict[str, Value] = {
        "ServiceName": service.name,
        "Domain": topology.domain,
        "HostedZoneId": OutputRef(ZONE, "HostedZoneId"),
        "ClusterArn": OutputRef(CLUSTER, "ClusterArn"),
        "Database": service.database or "none",
        "WaitPeriodMs": str(wait_period_ms),
    }
    for role, region in zip(("Primary", "Secondary"), topology.regions, strict=True):
        domain = domain_step(service.name, region)
        parameters[f"{role}Region"] = region
        for output in ("RegionalDomainName", "RegionalHostedZoneId"):
            parameters[f"{role}{output}"] = OutputRef(domain, output)
    # The records come last, so that the name is never answered before both regions can serve it.
    after = tuple(mapping_step(service.name, region) for region in topology.regions)
    name = routing_step(service.name)
    return Stack(name, global_region(topology), "routing.yaml", parameters, after)
