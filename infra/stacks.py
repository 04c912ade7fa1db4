"""The ordered list of steps that deploys a topology: CloudFormation stacks and Chalice deployments.

`stack_list` is pure: the same topology gives the same steps. A step names what it needs from other
steps by `OutputRef`, so the order is not a convention: `needs` of a step are the steps that must be
done before, and steps that do not need each other may run at the same time. The list itself is one
valid order.

Where things lie: what is regional (certificate, logs, custom domains, applications, the external
API) has one step per region; what is not (zone, cluster, switches) lies in `global_region`, never
in the primary if that can be helped, so that losing the primary does not take the stacks with it.
What decides a switch is elsewhere: the cluster has five regions of its own, and an alarm that takes
a service over lies in the region that takes over.

A cluster is only made when an entry has the switch "arc"; the other switches have two alarms.

Downside: a step per service, region and concern makes many small stacks: eight steps per service
with the switch "arc" and ten with another, some 410 or 510 for 50 services, within the default
quota of 2,000 stacks per region.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from infra import data_stacks, monitoring, notifications, options, pipeline
from infra.naming import METRIC, NAMESPACE, label, takeover_dimensions
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

ROUTING = {
    "arc": "routing.yaml",
    "alarm": "routing-alarm.yaml",
    "health": "routing-health.yaml",
}
"""Switch -> template of the health checks and records."""
TAKEOVER = "takeover.yaml"


def global_region(topology: Topology) -> str:
    """Region of the stacks that belong to no region: the secondary, unless a switch is of ARC and
    its types do not exist there; then us-west-2, which is also where ARC's control plane is."""
    secondary = topology.regions[1]
    if secondary in ARC_TYPE_REGIONS or not topology.switched_by("arc"):
        return secondary
    return "us-west-2"


# Names of the steps; other modules use these instead of spelling the names again.
ZONE = "zone"
CLUSTER = "cluster"


def certificate_step(region: str) -> str:
    return f"certificate-{region}"


def logging_step(region: str) -> str:
    return f"logging-{region}"


def domain_step(service: str, region: str) -> str:
    return f"domain-{service}-{region}"


def application_step(service: str, region: str) -> str:
    return f"application-{service}-{region}"


def mapping_step(service: str, region: str) -> str:
    return f"mapping-{service}-{region}"


def routing_step(service: str) -> str:
    return f"routing-{service}"


def takeover_step(service: str, region: str) -> str:
    """The alarm with which `region` takes the service over from the other region."""
    return f"takeover-{service}-{region}"


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
        steps.extend(_switch(topology, service, wait_period_ms))
    steps.extend(_domains(topology, API))
    for region in topology.regions:
        gateway = Stack(
            gateway_step(region),
            region,
            "gateway.yaml",
            {"ApiName": f"{API}.{topology.domain}"},
            after=(logging_step(region),),  # no access log without the account's role for logs
        )
        api, stage = OutputRef(gateway.name, "RestApiId"), OutputRef(gateway.name, "StageName")
        steps += [gateway, _mapping(API, region, api, stage)]
    steps.extend(_switch(topology, topology.api, wait_period_ms))
    steps.extend(monitoring.monitoring_steps(topology, global_region(topology)))
    steps.extend(options.option_steps(topology, global_region(topology)))
    steps.extend(pipeline.pipeline_steps(topology, global_region(topology)))
    return tuple(steps)


def _foundations(topology: Topology, existing_hosted_zone_id: str) -> Iterator[Stack]:
    shared = global_region(topology)
    zone = {"Domain": topology.domain}
    if existing_hosted_zone_id:
        zone["ExistingHostedZoneId"] = existing_hosted_zone_id
    elif topology.options.accelerated_recovery:
        zone["AcceleratedRecovery"] = "true"
    yield Stack(ZONE, shared, "zone.yaml", zone)
    for region in topology.regions:
        yield Stack(
            certificate_step(region),
            region,
            "certificate.yaml",
            {"Domain": topology.domain, "HostedZoneId": OutputRef(ZONE, "HostedZoneId")},
        )
        yield Stack(logging_step(region), region, "logging.yaml")
    if topology.switched_by("arc"):
        yield _cluster(topology)


def _cluster(topology: Topology) -> Stack:
    name = topology.domain.replace(".", "-")[:64]
    return Stack(CLUSTER, global_region(topology), "cluster.yaml", {"ClusterName": name})


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
        if service.holds and region != topology.primary:
            environment["HOLD"] = hold(topology, service)
        network: dict[str, Value] = {}
        if service.database:
            environment |= data_stacks.environment(topology, region)
            network = data_stacks.network(region)
        yield Application(
            application_step(service.name, region),
            service.name,
            service.folder,
            region,
            environment,
            network=network,
            access_log=OutputRef(logging_step(region), "ServicesAccessLogArn"),
        )


def hold(topology: Topology, service: Service) -> str:
    """HOLD of the standby's functions (`services/shared/regional/hold.py`): with it the standby
    keeps the service after an automatic failover, until somebody moves it back."""
    primary = topology.primary
    check = f"https://{topology.pinned_host(service.name, primary)}{service.checked_path}"
    return json.dumps(
        {
            "host": topology.host(service.name),
            "check": check,
            "namespace": NAMESPACE,
            "metric": METRIC,
            "dimensions": takeover_dimensions(topology, service.name, primary),
        }
    )


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


def _switch(topology: Topology, entry: Service, wait_period_ms: int) -> Iterator[Stack]:
    if entry.switch != "arc":
        yield from _takeovers(topology, entry)
    yield _routing(topology, entry, wait_period_ms)


def _takeovers(topology: Topology, entry: Service) -> Iterator[Stack]:
    for region in topology.regions:
        (other,) = set(topology.regions) - {region}
        yield Stack(
            takeover_step(entry.name, region),
            region,
            TAKEOVER,
            {
                "Label": label(topology),
                "ServiceName": entry.name,
                "Domain": topology.domain,
                "FromRegion": other,
                **notifications.takeover_parameters(topology, region),
            },
        )


def _routing(topology: Topology, entry: Service, wait_period_ms: int) -> Stack:
    parameters: dict[str, Value] = {
        "ServiceName": entry.name,
        "Domain": topology.domain,
        "HostedZoneId": OutputRef(ZONE, "HostedZoneId"),
        **_deciding(topology, entry, wait_period_ms),
    }
    for role, region in zip(("Primary", "Secondary"), topology.regions, strict=True):
        domain = domain_step(entry.name, region)
        parameters[f"{role}Region"] = region
        for output in ("RegionalDomainName", "RegionalHostedZoneId"):
            parameters[f"{role}{output}"] = OutputRef(domain, output)
    # The records come last, so that the name is never answered before both regions can serve it.
    after = tuple(mapping_step(entry.name, region) for region in topology.regions)
    name = routing_step(entry.name)
    return Stack(name, global_region(topology), ROUTING[entry.switch], parameters, after)


def _deciding(topology: Topology, entry: Service, wait_period_ms: int) -> dict[str, Value]:
    """The parameters that differ from switch to switch."""
    if entry.switch == "arc":
        return {
            "ClusterArn": OutputRef(CLUSTER, "ClusterArn"),
            "Database": entry.database or "none",
            "WaitPeriodMs": str(wait_period_ms),
        }
    primary, secondary = (takeover_step(entry.name, region) for region in topology.regions)
    # What takes a region out lies in the other one.
    alarms: dict[str, Value] = {
        "PrimaryTakenAlarm": OutputRef(secondary, "AlarmName"),
        "SecondaryTakenAlarm": OutputRef(primary, "AlarmName"),
    }
    if entry.switch == "alarm":
        return alarms
    return {**alarms, "CheckedPath": entry.checked_path, "Records": records_of(entry)}


def records_of(entry: Service) -> str:
    """What kind of records the switch "health" has: "failover" or "weighted"."""
    return entry.records or "failover"
