"""What Route 53 refuses: records that contradict each other, and health checks that cannot be.

Pure: each function returns all faults as texts. The rules are those of the API reference's
`ResourceRecordSet`, `AliasTarget` and `HealthCheckConfig`.

Downside: AWS's own wording of the errors is not imitated; these name the record and the reason.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from lab.route53.health import (
    CHECKER_REGIONS,
    INSUFFICIENT_STATUSES,
    PROBED_TYPES,
    HealthCheck,
)
from lab.route53.records import (
    RECORD_TYPES,
    Group,
    GroupKey,
    Record,
    group_records,
    is_within,
)
from lab.route53.wire import rdata, wire_name

CHECK_TYPES = ("RECOVERY_CONTROL", "CALCULATED", "CLOUDWATCH_METRIC", *PROBED_TYPES)
MAX_CHILDREN = 255

_Node = TypeVar("_Node")


def record_faults(
    zone_id: str,
    zone_name: str,
    records: Sequence[Record],
    checks: frozenset[str],
    targets: frozenset[str],
    alias_zones: Mapping[str, str],
    ipv4_only: frozenset[str],
) -> tuple[str, ...]:
    """All faults of one zone's records.

    Args:
        checks: ids of the health checks that exist.
        targets: DNS names of AWS resources that an alias may point to.
        alias_zones: their hosted zone ids, for those that are known.
        ipv4_only: those that are known not to be dual stack.
    """
    groups = group_records(records)
    faults = [
        f"{record.label}: {fault}"
        for record in records
        for fault in _single_faults(record, zone_name, checks)
    ]
    faults += [
        f"{record.label}: {fault}"
        for record in records
        if record.alias is not None
        for fault in _alias_faults(record, zone_id, groups, targets, alias_zones)
    ]
    faults += [
        f"{record.label}: alias target {record.alias.dns_name} is not dual stack (IpAddressType of "
        "its EndpointConfiguration); the name would have no IPv6 address"
        for record in records
        if record.type == "AAAA" and record.alias and record.alias.dns_name in ipv4_only
    ]
    for (name, rtype), group in groups.items():
        faults += [f"{name} {rtype}: {fault}" for fault in _group_faults(group)]
    faults += _cname_faults(zone_name, groups)
    faults += _alias_loops(zone_id, groups)
    return tuple(faults)


def _single_faults(record: Record, zone_name: str, checks: frozenset[str]) -> Iterator[str]:
    if not is_within(record.name, zone_name):
        yield f"the name is not in zone {zone_name}"
    try:
        wire_name(record.name)
    except ValueError as error:
        yield str(error)
    if record.type not in RECORD_TYPES:
        yield f"type {record.type} is not imitated (only {', '.join(RECORD_TYPES)})"
    elif record.alias is None:
        yield from _value_faults(record)
    if record.health_check is not None and record.health_check not in checks:
        yield f"health check {record.health_check} does not exist"
    yield from _policy_faults(record)


def _value_faults(record: Record) -> Iterator[str]:
    if not record.values:
        yield "neither ResourceRecords nor AliasTarget"
    if record.ttl is None:
        yield "no TTL"
    elif not 0 <= record.ttl <= 2_147_483_647:
        yield f"TTL {record.ttl} is out of range"
    if len(set(record.values)) < len(record.values):
        yield "a value twice"
    for value in record.values:
        try:
            rdata(record.type, value)
        except ValueError as error:
            yield f"{value!r} is not a value of type {record.type}: {error}"


def _policy_faults(record: Record) -> Iterator[str]:
    if record.policy == "simple":
        if record.set_identifier is not None:
            yield "SetIdentifier without Failover, Weight or MultiValueAnswer"
        return
    if not record.set_identifier:
        yield f"a {record.policy} record needs a SetIdentifier"
    if record.type in ("NS", "SOA"):
        yield f"an {record.type} record can only be simple"
    if record.policy == "failover" and record.failover not in ("PRIMARY", "SECONDARY"):
        yield f"Failover is {record.failover}, not PRIMARY or SECONDARY"
    if record.weight is not None and not 0 <= record.weight <= 255:
        yield f"Weight {record.weight} is not within 0 and 255"
    if record.policy == "multivalue" and (record.alias or record.type == "CNAME"):
        yield "a multivalue record can be neither an alias nor a CNAME"


def _alias_faults(
    record: Record,
    zone_id: str,
    groups: Mapping[GroupKey, Group],
    targets: frozenset[str],
    alias_zones: Mapping[str, str],
) -> Iterator[str]:
    alias = record.alias
    assert alias is not None
    if record.ttl is not None or record.values:
        yield "an alias has no TTL and no ResourceRecords of its own"
    if record.type in ("NS", "SOA"):
        yield f"an {record.type} record cannot be an alias"
    if alias.hosted_zone_id == zone_id:
        if (alias.dns_name, record.type) not in groups:
            yield f"alias target {alias.dns_name} has no record of type {record.type} in the zone"
        return
    if alias.dns_name not in targets:
        yield (
            f"alias target {alias.dns_name} is neither a record of this zone (id {zone_id}) nor an "
            "API Gateway domain of this deployment"
        )
    elif alias_zones.get(alias.dns_name, alias.hosted_zone_id) != alias.hosted_zone_id:
        yield (
            f"alias target {alias.dns_name} does not lie within zone {alias.hosted_zone_id}, "
            f"its zone is {alias_zones[alias.dns_name]}"
        )
    if record.type not in ("A", "AAAA"):
        yield f"an alias to an API Gateway domain is of type A or AAAA, not {record.type}"


def _group_faults(group: Group) -> Iterator[str]:
    policies = sorted({record.policy for record in group})
    if len(policies) > 1:
        yield f"records of different routing policies: {', '.join(policies)}"
        return
    if policies == ["simple"] and len(group) > 1:
        yield f"{len(group)} simple records of one name and type"
    identifiers = [record.set_identifier for record in group if record.set_identifier]
    for identifier in sorted({i for i in identifiers if identifiers.count(i) > 1}):
        yield f"SetIdentifier {identifier} twice"
    for side in ("PRIMARY", "SECONDARY"):
        count = sum(record.failover == side for record in group)
        if count > 1:
            yield f"{count} {side} records"


def _cname_faults(zone_name: str, groups: Mapping[GroupKey, Group]) -> Iterator[str]:
    types: dict[str, list[str]] = {}
    for name, rtype in groups:
        types.setdefault(name, []).append(rtype)
    for name, present in types.items():
        if "CNAME" not in present:
            continue
        if name == zone_name:
            yield f"{name} CNAME: not possible at the top of a zone"
        if len(present) > 1:
            others = ", ".join(rtype for rtype in present if rtype != "CNAME")
            yield f"{name} CNAME: the name also has records of type {others}"
        if any(len(record.values) > 1 for record in groups[name, "CNAME"]):
            yield f"{name} CNAME: more than one value"


def _alias_loops(zone_id: str, groups: Mapping[GroupKey, Group]) -> Iterator[str]:
    def next_keys(key: GroupKey) -> tuple[GroupKey, ...]:
        return tuple(
            (record.alias.dns_name, record.type)
            for record in groups.get(key, ())
            if record.alias is not None and record.alias.hosted_zone_id == zone_id
        )

    for name, rtype in sorted(_in_cycles(groups, next_keys)):
        yield f"{name} {rtype}: the alias leads back to itself"


def check_faults(
    checks: Mapping[str, HealthCheck], zone_names: frozenset[str], targets: frozenset[str]
) -> tuple[str, ...]:
    """All faults of the health checks.

    Args:
        zone_names: zones in which checkers can look a domain name up.
        targets: names of AWS resources whose address is known.
    """
    faults = [
        f"health check {check.id}: {fault}"
        for check in checks.values()
        for fault in _check_faults(check, checks, zone_names, targets)
    ]

    def children(check_id: str) -> tuple[str, ...]:
        return checks[check_id].children if check_id in checks else ()

    faults += [
        f"health check {check_id}: calculated from itself"
        for check_id in sorted(_in_cycles(checks, children))
    ]
    return tuple(faults)


def _check_faults(
    check: HealthCheck,
    checks: Mapping[str, HealthCheck],
    zone_names: frozenset[str],
    targets: frozenset[str],
) -> Iterator[str]:
    if check.alarm is not None and check.type != "CLOUDWATCH_METRIC":
        yield f"AlarmIdentifier does not go with {check.type}"
    if check.type not in CHECK_TYPES:
        yield f"Type {check.type!r} is none of {', '.join(CHECK_TYPES)}"
    elif check.type == "RECOVERY_CONTROL":
        if not check.routing_control:
            yield "no RoutingControlArn"
    elif check.type == "CLOUDWATCH_METRIC":
        yield from _metric_faults(check)
    elif check.type == "CALCULATED":
        yield from _calculated_faults(check, checks)
    else:
        yield from _endpoint_faults(check)
        yield from _request_faults(check)
        yield from _address_faults(check, zone_names, targets)


def _calculated_faults(check: HealthCheck, checks: Mapping[str, HealthCheck]) -> Iterator[str]:
    for child in check.children:
        if child not in checks:
            yield f"child {child} does not exist"
    if len(check.children) > MAX_CHILDREN:
        yield f"more than {MAX_CHILDREN} children"
    if not 0 <= check.health_threshold <= 256:
        yield f"HealthThreshold {check.health_threshold} is not within 0 and 256"


def _metric_faults(check: HealthCheck) -> Iterator[str]:
    if check.alarm is None:
        yield "no AlarmIdentifier"
    if check.insufficient not in INSUFFICIENT_STATUSES:
        known = ", ".join(INSUFFICIENT_STATUSES)
        yield f"InsufficientDataHealthStatus {check.insufficient!r} is none of {known}"


def _endpoint_faults(check: HealthCheck) -> Iterator[str]:
    if check.port is None:
        yield "no Port"
    elif not 1 <= check.port <= 65_535:
        yield f"Port {check.port} is not within 1 and 65535"
    if check.interval not in (10, 30):
        yield f"RequestInterval {check.interval} is neither 10 nor 30"
    if not 1 <= check.threshold <= 10:
        yield f"FailureThreshold {check.threshold} is not within 1 and 10"
    unknown = [region for region in check.regions if region not in CHECKER_REGIONS]
    if unknown:
        yield f"no health checkers in {', '.join(unknown)}"
    if len(set(check.regions)) < 3:
        yield "fewer than 3 Regions"


def _request_faults(check: HealthCheck) -> Iterator[str]:
    if check.type.endswith("_STR_MATCH") and not check.search_string:
        yield "no SearchString"
    if check.search_string and not check.type.endswith("_STR_MATCH"):
        yield f"SearchString does not go with {check.type}"
    if len(check.search_string or "") > 255 or len(check.path) > 255:
        yield "SearchString and ResourcePath have at most 255 characters"
    if any(char.isspace() or not char.isprintable() for char in check.path):
        yield "ResourcePath contains spaces or control characters"


def _address_faults(
    check: HealthCheck, zone_names: frozenset[str], targets: frozenset[str]
) -> Iterator[str]:
    if check.domain_name is not None:
        try:
            wire_name(check.domain_name)
        except ValueError as error:
            yield f"FullyQualifiedDomainName: {error}"
    if check.ip_address is not None:
        try:
            address = ipaddress.ip_address(check.ip_address)
        except ValueError:
            yield f"IPAddress {check.ip_address!r} is not an IP address"
        else:
            if not address.is_loopback:
                yield f"IPAddress {address} is outside this machine, the lab does not go there"
        return
    name = check.domain_name
    if name is None:
        yield "neither IPAddress nor FullyQualifiedDomainName"
    elif name not in targets and not any(is_within(name, zone) for zone in zone_names):
        yield f"{name} is in no zone of this deployment, and the lab asks no other name server"


def _in_cycles(nodes: Iterable[_Node], following: Callable[[_Node], Iterable[_Node]]) -> set[_Node]:
    """The nodes from which a way leads back to themselves."""
    found = set()
    for start in nodes:
        seen: set[_Node] = set()
        waiting = list(following(start))
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += following(node)
        if start in seen:
            found.add(start)
    return found
