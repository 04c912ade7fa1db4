"""From the resources of a deployment to zones and health checks, with every fault on the way.

`read` is all or nothing, as `ChangeResourceRecordSets` is: either everything is acceptable or
`DeploymentRefused` lists all that is not.

Records that lead to CloudFront are left out: nothing stands for CloudFront here, so their names do
not exist.

Downside: what Route 53 would accept but the lab cannot imitate (latency and geolocation routing,
private zones) is refused too; the message says which of the two it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.model import CLOUDFRONT_ZONE, Deployment, Resource
from lab.route53.errors import DeploymentRefused
from lab.route53.health import CHECKER_REGIONS, HTTP_TYPES, HealthCheck
from lab.route53.records import Alias, Policy, Record, Zone, make_zone, normal_name
from lab.route53.selection import Target
from lab.route53.validation import check_faults, record_faults

_POLICY_PROPERTIES: Mapping[str, Policy] = {
    "Failover": "failover",
    "Weight": "weighted",
    "MultiValueAnswer": "multivalue",
}
_NOT_IMITATED = ("Region", "GeoLocation", "GeoProximityLocation", "CidrRoutingConfig")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the name server and the health checkers work on."""

    zones: tuple[Zone, ...]
    checks: Mapping[str, HealthCheck]


def read(deployment: Deployment, targets: Mapping[str, Target]) -> Configuration:
    """Zones, records and health checks of a deployment.

    Args:
        targets: the AWS resources that alias records may name.

    Raises:
        DeploymentRefused: with all faults.
    """
    faults: list[str] = []
    checks = _read_checks(deployment, faults)
    hosted_zones = _read_hosted_zones(deployment, faults)
    records = _read_records(deployment, hosted_zones, faults)
    alias_zones = {
        normal_name(str(domain.attributes["RegionalDomainName"])): str(
            domain.attributes["RegionalHostedZoneId"]
        )
        for domain in deployment.of_type("AWS::ApiGateway::DomainName")
        if {"RegionalDomainName", "RegionalHostedZoneId"} <= domain.attributes.keys()
    }
    ipv4_only = _ipv4_only(deployment)
    names = frozenset(normal_name(str(r.properties["Name"])) for r in hosted_zones.values())
    zones = []
    for zone_id, hosted in hosted_zones.items():
        name = normal_name(str(hosted.properties["Name"]))
        own = records[zone_id]
        found = record_faults(
            zone_id, name, own, frozenset(checks), frozenset(targets), alias_zones, ipv4_only
        )
        faults += found
        if not found:
            zones.append(make_zone(zone_id, name, _name_servers(hosted), own))
    faults += check_faults(checks, names, frozenset(targets))
    if faults:
        raise DeploymentRefused(faults)
    return Configuration(tuple(zones), checks)


def _ipv4_only(deployment: Deployment) -> frozenset[str]:
    """API Gateway's names of the custom domains that are not dual stack; IPv4 is the default (API
    Gateway guide, "IP address types for custom domain names")."""
    return frozenset(
        normal_name(str(domain.attributes["RegionalDomainName"]))
        for domain in deployment.of_type("AWS::ApiGateway::DomainName")
        if "RegionalDomainName" in domain.attributes
        and domain.properties.get("EndpointConfiguration", {}).get("IpAddressType") != "dualstack"
    )


def _name_servers(hosted: Resource) -> tuple[str, ...]:
    servers = hosted.attributes.get("NameServers") or ("ns-1.awsdns-01.org",)
    return tuple(normal_name(str(server)) for server in servers)


def _read_hosted_zones(deployment: Deployment, faults: list[str]) -> dict[str, Resource]:
    zones: dict[str, Resource] = {}
    names: set[str] = set()
    for resource in deployment.of_type("AWS::Route53::HostedZone"):
        name = normal_name(str(resource.properties.get("Name", "")))
        if not name:
            faults.append(f"hosted zone {resource.logical_id}: no Name")
        elif name in names:
            faults.append(f"hosted zone {name}: the lab serves one zone of a name")
        elif resource.properties.get("VPCs"):
            faults.append(f"hosted zone {name}: private zones are not imitated")
        else:
            zones[resource.physical_id] = resource
        names.add(name)
    return zones


def _read_records(
    deployment: Deployment, zones: Mapping[str, Resource], faults: list[str]
) -> dict[str, list[Record]]:
    by_name = {normal_name(str(r.properties["Name"])): zone_id for zone_id, r in zones.items()}
    records: dict[str, list[Record]] = {zone_id: [] for zone_id in zones}
    for properties in _record_sets(deployment):
        where = f"{properties.get('Name')} {properties.get('Type')}"
        named = normal_name(str(properties.get("HostedZoneName", "")))
        zone_id = str(properties.get("HostedZoneId") or by_name.get(named, named))
        if zone_id not in zones:
            faults.append(f"{where}: hosted zone {zone_id or '(none named)'} is not deployed")
            continue
        try:
            record = read_record(properties)
        except ValueError as error:
            faults.append(f"{where}: {error}")
            continue
        if record.alias is None or record.alias.hosted_zone_id != CLOUDFRONT_ZONE:
            records[zone_id].append(record)
    return records


def _record_sets(deployment: Deployment) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for resource in deployment.of_type("AWS::Route53::RecordSet", "AWS::Route53::RecordSetGroup"):
        if resource.type == "AWS::Route53::RecordSet":
            found.append(resource.properties)
            continue
        common = {
            key: resource.properties[key]
            for key in ("HostedZoneId", "HostedZoneName")
            if key in resource.properties
        }
        found += [{**common, **member} for member in resource.properties.get("RecordSets", ())]
    return found


def read_record(properties: Mapping[str, Any]) -> Record:
    """One record from the properties of AWS::Route53::RecordSet.

    Raises:
        ValueError: a property that cannot be read, or that is not imitated.
    """
    if refused := [key for key in _NOT_IMITATED if properties.get(key) is not None]:
        raise ValueError(f"{', '.join(refused)} routing is not imitated")
    policies = [key for key in _POLICY_PROPERTIES if _given(properties, key)]
    if len(policies) > 1:
        raise ValueError(f"only one of {', '.join(policies)} is possible")
    missing = [key for key in ("Name", "Type") if not properties.get(key)]
    if missing:
        raise ValueError(f"no {' and no '.join(missing)}")
    return Record(
        name=normal_name(str(properties["Name"])),
        type=str(properties["Type"]),
        ttl=_integer(properties, "TTL"),
        values=tuple(str(value) for value in properties.get("ResourceRecords") or ()),
        alias=_read_alias(properties.get("AliasTarget")),
        policy=_POLICY_PROPERTIES[policies[0]] if policies else "simple",
        set_identifier=_text(properties, "SetIdentifier"),
        failover=_text(properties, "Failover"),
        weight=_integer(properties, "Weight"),
        health_check=_text(properties, "HealthCheckId"),
    )


def _given(properties: Mapping[str, Any], key: str) -> bool:
    if key == "MultiValueAnswer":
        return _boolean(properties, key)
    return properties.get(key) is not None


def _read_alias(target: Mapping[str, Any] | None) -> Alias | None:
    if target is None:
        return None
    missing = [key for key in ("DNSName", "HostedZoneId") if not target.get(key)]
    if missing:
        raise ValueError(f"AliasTarget has no {' and no '.join(missing)}")
    return Alias(
        normal_name(str(target["DNSName"])),
        str(target["HostedZoneId"]),
        _boolean(target, "EvaluateTargetHealth"),
    )


def _text(properties: Mapping[str, Any], key: str) -> str | None:
    value = properties.get(key)
    return None if value is None else str(value)


def _integer(properties: Mapping[str, Any], key: str) -> int | None:
    value = properties.get(key)
    if value is None:
        return None
    try:
        return int(str(value))
    except ValueError as error:
        raise ValueError(f"{key} is not a whole number: {value!r}") from error


def _boolean(properties: Mapping[str, Any], key: str, default: bool = False) -> bool:
    value = properties.get(key, default)
    if isinstance(value, bool):
        return value
    if str(value).lower() not in ("true", "false"):
        raise ValueError(f"{key} is neither true nor false: {value!r}")
    return str(value).lower() == "true"


def _read_checks(deployment: Deployment, faults: list[str]) -> dict[str, HealthCheck]:
    checks = {}
    for resource in deployment.of_type("AWS::Route53::HealthCheck"):
        config = resource.properties.get("HealthCheckConfig") or {}
        try:
            checks[resource.physical_id] = read_check(resource.physical_id, config)
        except ValueError as error:
            faults.append(f"health check {resource.logical_id}: {error}")
    return checks


def read_check(check_id: str, config: Mapping[str, Any]) -> HealthCheck:
    """One health check from its `HealthCheckConfig`.

    Raises:
        ValueError: a member that cannot be read.
    """
    kind = str(config.get("Type", ""))
    secure = kind.startswith("HTTPS")
    port = _integer(config, "Port")
    if port is None and kind in HTTP_TYPES:
        port = 443 if secure else 80
    domain_name = _text(config, "FullyQualifiedDomainName")
    return HealthCheck(
        id=check_id,
        type=kind,
        inverted=_boolean(config, "Inverted"),
        disabled=_boolean(config, "Disabled"),
        routing_control=_text(config, "RoutingControlArn"),
        domain_name=None if domain_name is None else normal_name(domain_name),
        ip_address=_text(config, "IPAddress"),
        port=port,
        path="/" + (_text(config, "ResourcePath") or "").removeprefix("/"),
        search_string=_text(config, "SearchString"),
        interval=_integer(config, "RequestInterval") or 30,
        threshold=_default(_integer(config, "FailureThreshold"), 3),
        enable_sni=_boolean(config, "EnableSNI", True),
        regions=tuple(_strings(config.get("Regions"))) or CHECKER_REGIONS,
        children=tuple(_strings(config.get("ChildHealthChecks"))),
        health_threshold=_default(_integer(config, "HealthThreshold"), 0),
        alarm=_read_alarm(config.get("AlarmIdentifier")),
        insufficient=_text(config, "InsufficientDataHealthStatus") or "LastKnownStatus",
    )


def _read_alarm(identifier: Mapping[str, Any] | None) -> tuple[str, str] | None:
    if identifier is None:
        return None
    missing = [key for key in ("Region", "Name") if not identifier.get(key)]
    if missing:
        raise ValueError(f"AlarmIdentifier has no {' and no '.join(missing)}")
    return str(identifier["Region"]), str(identifier["Name"])


def _default(value: int | None, default: int) -> int:
    return default if value is None else value


def _strings(values: Sequence[Any] | None) -> list[str]:
    return [str(value) for value in values or ()]
