"""What API Gateway, CloudWatch, Route 53 and ARC would refuse, found in the resolved resources.

Each check takes all resources and gives the reasons for refusing, one line each. Sources: the
`ChangeBatch` and `ResourceRecordSet` pages of the Route 53 API reference ("you can't create
failover records with the same name and type as records with another routing policy"), the
`RoutingControl`, `SafetyRule` and `ControlPanel` pages of the recovery control configuration API
reference, the "Set up a Regional custom domain name" page of the API Gateway guide, and the
"Monitoring a CloudWatch alarm" page of the Route 53 developer guide.

Downside: only what matters to routing is checked; everything else is cfn-lint's business.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.model import CLOUDFRONT_ZONE, Resource

_ARC = "AWS::Route53RecoveryControl::"
_POLICIES = {
    "Failover": "failover",
    "Weight": "weighted",
    "Region": "latency",
    "GeoLocation": "geolocation",
    "GeoProximityLocation": "geoproximity",
    "CidrRoutingConfig": "IP-based",
    "MultiValueAnswer": "multivalue answer",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record set, whether it stands alone or in a RecordSetGroup."""

    at: str
    zone: str
    name: str
    """Lower case, no final dot."""
    type: str
    properties: Mapping[str, Any]

    @property
    def policy(self) -> str:
        found = [policy for key, policy in _POLICIES.items() if self.properties.get(key)]
        if not found and "Weight" in self.properties:  # a weight of 0
            found = ["weighted"]
        return " and ".join(found) or "simple"


class Index:
    """The resources by what they are looked up by."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self.by_type: dict[str, list[Resource]] = defaultdict(list)
        for resource in resources:
            self.by_type[resource.type].append(resource)
        self.records = [record for r in resources for record in _records(r, self.by_type)]

    def all(self, *types: str) -> Iterator[Resource]:
        for kind in types:
            yield from self.by_type.get(kind, ())

    def ids(self, *types: str) -> set[str]:
        return {resource.physical_id for resource in self.all(*types)}


def canonical(name: Any) -> str:
    """A DNS name as it is compared: lower case, without the final dot."""
    return str(name).lower().removesuffix(".")


def _records(resource: Resource, by_type: Mapping[str, list[Resource]]) -> Iterator[Record]:
    common = resource.properties
    if resource.type == "AWS::Route53::RecordSet":
        entries: Iterable[Mapping[str, Any]] = (common,)
    elif resource.type == "AWS::Route53::RecordSetGroup":
        entries = common.get("RecordSets", ())
    else:
        return
    for entry in entries:
        zone = entry.get("HostedZoneId") or common.get("HostedZoneId")
        if zone is None:
            name = canonical(entry.get("HostedZoneName") or common.get("HostedZoneName"))
            zones = by_type.get("AWS::Route53::HostedZone", ())
            zone = next((z.physical_id for z in zones if _zone_name(z) == name), name)
        yield Record(_at(resource), zone, canonical(entry.get("Name")), str(entry["Type"]), entry)


def _zone_name(zone: Resource) -> str:
    return canonical(zone.properties.get("Name"))


def _at(resource: Resource) -> str:
    return f"{resource.stack}: {resource.logical_id}"


def refusals(resources: Sequence[Resource]) -> list[str]:
    """Every reason for which AWS would refuse these resources."""
    index = Index(resources)
    return [reason for check in CHECKS for reason in check(index)]


def _record_sets(index: Index) -> Iterator[str]:
    """Number 51: one name and type has one policy, one PRIMARY, one SECONDARY, unique ids."""
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in index.records:
        groups[record.zone, record.name, record.type].append(record)
    for (_, name, kind), records in groups.items():
        where = f"{name} {kind} ({', '.join(record.at for record in records)})"
        yield from (f"{where}: {reason}" for reason in _group(records))


def _group(records: Sequence[Record]) -> Iterator[str]:
    policies = sorted({record.policy for record in records})
    if len(policies) > 1:
        yield f"records of one name and type mix routing policies: {', '.join(policies)}"
        return
    if policies == ["simple"]:
        if len(records) > 1:
            yield f"{len(records)} simple records of one name and type"
        return
    ids = Counter(record.properties.get("SetIdentifier") for record in records)
    if None in ids:
        yield f"a {policies[0]} record needs a SetIdentifier"
    yield from (f"SetIdentifier {i} is used {n} times" for i, n in ids.items() if i and n > 1)
    if policies == ["failover"]:
        roles = Counter(record.properties["Failover"] for record in records)
        yield from (f"{n} records are {role}" for role, n in roles.items() if n > 1)
        unknown = roles.keys() - {"PRIMARY", "SECONDARY"}
        yield from (f"Failover {role!r} is neither PRIMARY nor SECONDARY" for role in unknown)


def _record_references(index: Index) -> Iterator[str]:
    zones = {z.physical_id: _zone_name(z) for z in index.all("AWS::Route53::HostedZone")}
    checks = index.ids("AWS::Route53::HealthCheck")
    gateways = {
        (canonical(d.attributes["RegionalDomainName"]), d.attributes["RegionalHostedZoneId"])
        for d in index.all("AWS::ApiGateway::DomainName")
    }
    names = {(record.name, record.zone, record.type) for record in index.records}
    for record in index.records:
        at, zone = f"{record.at}: {record.name} {record.type}", zones.get(record.zone)
        if zone is None:
            yield f"{at}: there is no hosted zone {record.zone}"
        elif record.name != zone and not record.name.endswith("." + zone):
            yield f"{at}: the name is not in the zone {zone}"
        check = record.properties.get("HealthCheckId")
        if check is not None and check not in checks:
            yield f"{at}: there is no health check {check}"
        yield from (f"{at}: {reason}" for reason in _content(record, gateways, names))


def _to_cloudfront(target: str, alias: Mapping[str, Any]) -> Iterator[str]:
    if not target.endswith(".cloudfront.net"):
        yield f"{target} is no name of CloudFront's, whose hosted zone the alias has"
    if alias.get("EvaluateTargetHealth"):
        yield "the health of a CloudFront distribution cannot be evaluated"


def _content(
    record: Record, gateways: set[tuple[str, str]], names: set[tuple[str, str, str]]
) -> Iterator[str]:
    alias = record.properties.get("AliasTarget")
    if alias is None:
        if not record.properties.get("ResourceRecords"):
            yield "has neither ResourceRecords nor an AliasTarget"
        return
    if "TTL" in record.properties or "ResourceRecords" in record.properties:
        yield "an alias record has neither a TTL nor ResourceRecords"
    if record.policy == "multivalue answer":
        yield "a multivalue answer record cannot be an alias"
    target, zone = canonical(alias.get("DNSName")), alias.get("HostedZoneId")
    if zone == record.zone:
        if (target, zone, record.type) not in names:
            yield f"there is no {record.type} record {target} in the zone for the alias"
    elif zone == CLOUDFRONT_ZONE:
        yield from _to_cloudfront(target, alias)
    elif (target, zone) not in gateways:
        yield f"there is no custom domain name {target} in hosted zone {zone} for the alias"


def _health_checks(index: Index) -> Iterator[str]:
    controls = index.ids(_ARC + "RoutingControl")
    checks = index.ids("AWS::Route53::HealthCheck")
    for resource in index.all("AWS::Route53::HealthCheck"):
        config = resource.properties.get("HealthCheckConfig", {})
        control = config.get("RoutingControlArn")
        if (config.get("Type") == "RECOVERY_CONTROL") != (control is not None):
            yield f"{_at(resource)}: RoutingControlArn belongs to the type RECOVERY_CONTROL only"
        elif control is not None and control not in controls:
            yield f"{_at(resource)}: there is no routing control {control}"
        for child in config.get("ChildHealthChecks", ()):
            if child not in checks:
                yield f"{_at(resource)}: there is no health check {child}"


_SIMPLE_STATISTICS = ("Average", "Maximum", "Minimum", "SampleCount", "Sum")


def _followed_alarms(index: Index) -> Iterator[str]:
    """Route 53 follows simple alarms only: one metric of standard resolution, N out of N."""
    alarms = {(a.region, a.physical_id): a for a in index.all("AWS::CloudWatch::Alarm")}
    for resource in index.all("AWS::Route53::HealthCheck"):
        identifier = resource.properties.get("HealthCheckConfig", {}).get("AlarmIdentifier")
        if identifier is None:
            continue
        name, region = identifier.get("Name"), identifier.get("Region")
        at, alarm = _at(resource), alarms.get((str(region), str(name)))
        if alarm is None:
            yield f"{at}: there is no alarm {name} in {region}"
            continue
        yield from (f"{at}: the alarm {name} {reason}" for reason in _not_simple(alarm))


def _not_simple(alarm: Resource) -> Iterator[str]:
    given = alarm.properties
    periods = given.get("EvaluationPeriods")
    if "Metrics" in given:
        yield "uses metric math, which no health check can follow"
    elif given.get("Statistic") not in _SIMPLE_STATISTICS:
        yield f"has none of the statistics {', '.join(_SIMPLE_STATISTICS)}"
    if given.get("DatapointsToAlarm", periods) != periods:
        yield "is one of M out of N, which no health check can follow"
    if given.get("Period", 60) < 60:
        yield "has a high resolution, which no health check can follow"


def _unique_alarms(index: Index) -> Iterator[str]:
    """A name is one alarm's in its region: a second one would take the first one's place."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for alarm in index.all("AWS::CloudWatch::Alarm"):
        places[alarm.region, alarm.physical_id].append(_at(alarm))
    for (region, name), found in places.items():
        if len(found) > 1:
            yield f"alarm {name!r} is made {len(found)} times in {region}: {', '.join(found)}"


def _controls(index: Index) -> Iterator[str]:
    clusters = index.ids(_ARC + "Cluster")
    panels = index.ids(_ARC + "ControlPanel")
    for resource in index.all(_ARC + "ControlPanel", _ARC + "RoutingControl"):
        cluster = resource.properties.get("ClusterArn")
        if cluster is not None and cluster not in clusters:
            yield f"{_at(resource)}: there is no cluster {cluster}"
    for resource in index.all(_ARC + "RoutingControl", _ARC + "SafetyRule"):
        panel = resource.properties.get("ControlPanelArn")
        if panel not in panels:
            yield f"{_at(resource)}: there is no control panel {panel}"
    yield from _unique(index, _ARC + "ControlPanel", "ClusterArn", "control panel")
    yield from _unique(index, _ARC + "RoutingControl", "ControlPanelArn", "routing control")
    yield from _unique(index, _ARC + "SafetyRule", "ControlPanelArn", "safety rule")


def _unique(index: Index, kind: str, within: str, what: str) -> Iterator[str]:
    """Number 33 for safety rules: names are unique in their panel (or cluster)."""
    names: dict[tuple[Any, Any], list[str]] = defaultdict(list)
    for resource in index.all(kind):
        names[resource.properties.get(within), resource.properties["Name"]].append(_at(resource))
    for (_, name), places in names.items():
        if len(places) > 1:
            yield f"{what} {name!r} is made {len(places)} times: {', '.join(places)}"


def _safety_rules(index: Index) -> Iterator[str]:
    controls = {
        r.physical_id: r.properties.get("ControlPanelArn")
        for r in index.all(_ARC + "RoutingControl")
    }
    for resource in index.all(_ARC + "SafetyRule"):
        properties = resource.properties
        rules = [properties[k] for k in ("AssertionRule", "GatingRule") if k in properties]
        if len(rules) != 1:
            yield f"{_at(resource)}: give one of AssertionRule and GatingRule"
            continue
        for members in ("AssertedControls", "GatingControls", "TargetControls"):
            for control in rules[0].get(members, ()):
                if control not in controls:
                    yield f"{_at(resource)}: {members}: there is no routing control {control}"
                elif controls[control] != properties.get("ControlPanelArn"):
                    yield f"{_at(resource)}: {members}: {control} is in another control panel"


def _custom_domains(index: Index) -> Iterator[str]:
    certificates = {r.physical_id: r for r in index.all("AWS::CertificateManager::Certificate")}
    seen: set[tuple[str, str]] = set()
    for resource in index.all("AWS::ApiGateway::DomainName"):
        name = canonical(resource.physical_id)
        if (name, resource.region) in seen:
            yield f"{_at(resource)}: {name} exists already in {resource.region}"
        seen.add((name, resource.region))
        arn = resource.properties.get("RegionalCertificateArn")
        certificate = certificates.get(str(arn))
        if certificate is None or certificate.region != resource.region:
            yield f"{_at(resource)}: there is no certificate {arn} in {resource.region}"
        elif not _covers(certificate, name):
            yield f"{_at(resource)}: the certificate does not cover {name}"


def _covers(certificate: Resource, name: str) -> bool:
    """A wildcard stands for exactly one label (ACM user guide, certificate characteristics)."""
    properties = certificate.properties
    names = {properties.get("DomainName"), *properties.get("SubjectAlternativeNames", ())}
    return name in names or "*." + name.partition(".")[2] in names


def _mappings(index: Index) -> Iterator[str]:
    domains = {(d.physical_id, d.region) for d in index.all("AWS::ApiGateway::DomainName")}
    stages = {
        (r.properties.get("RestApiId"), r.properties.get("StageName"), r.region)
        for r in index.all("AWS::ApiGateway::Stage")
    } | {
        (r.physical_id, r.properties.get("StageName"), r.region)
        for r in index.all("AWS::Serverless::Api")
    }
    seen: set[tuple[str, str]] = set()
    for resource in index.all("AWS::ApiGateway::BasePathMapping"):
        given = resource.properties
        domain, api, stage = given.get("DomainName"), given.get("RestApiId"), given.get("Stage")
        if (domain, resource.region) not in domains:
            yield f"{_at(resource)}: there is no custom domain {domain} in {resource.region}"
        if (api, stage, resource.region) not in stages:
            yield f"{_at(resource)}: there is no stage {stage} of API {api} in {resource.region}"
        if (resource.physical_id, resource.region) in seen:
            yield f"{_at(resource)}: {resource.physical_id} is mapped already"
        seen.add((resource.physical_id, resource.region))


CHECKS: tuple[Callable[[Index], Iterator[str]], ...] = (
    _record_sets,
    _record_references,
    _health_checks,
    _followed_alarms,
    _unique_alarms,
    _controls,
    _safety_rules,
    _custom_domains,
    _mappings,
)
