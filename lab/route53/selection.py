"""Which records Route 53 answers with, for any tree of records.

The rules are those of the Developer Guide's "How Amazon Route 53 chooses records when health
checking is configured" and "Health checking in complex configurations". Instead of drawing lots on
the way down, `decide` gives every possible answer with its share; `pick` draws one. So a weighted
answer is as testable (and as cacheable) as a fixed one, and "the answer changed" is a comparison
of two values.

Downside: a tree with thousands of weighted leaves under one name is expanded in full.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from lab.route53.records import Group, Record, Zone, is_within, normal_name, parent, zone_for

MULTIVALUE_LIMIT = 8
_CNAME_LIMIT = 8
_WHOLE = Fraction(1)
_ROTATED_TYPES = ("A", "AAAA")

Status = Literal["answer", "nodata", "nxdomain"]


@dataclass(frozen=True, slots=True)
class Target:
    """An AWS resource behind an alias: an API Gateway regional domain."""

    address: str
    region: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that the choice depends on besides the records."""

    checks: Mapping[str, bool]
    """Health check id -> healthy."""
    targets: Mapping[str, Target]
    """Alias name of an AWS resource -> where it is."""
    unavailable_regions: frozenset[str]
    """Regions in which the API Gateway service is down."""
    alias_ttl: int
    """TTL in seconds of an alias to an AWS resource."""


@dataclass(frozen=True, slots=True)
class RRset:
    """Values of one name and type, as they go into an answer."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One possible answer and how often it is given."""

    share: Fraction
    rrsets: tuple[RRset, ...]
    status: Status = "answer"
    at_most: int | None = None
    """Of the last RRset only this many values are given (multivalue)."""

    @property
    def fixed(self) -> bool:
        """Is it the same answer each time (no order to shuffle, nothing to leave out)?"""
        return not any(
            _shuffled(rrset) or len(rrset.values) > (self.at_most or len(rrset.values))
            for rrset in self.rrsets
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What is known about a question: the zone (None: not ours) and the possible answers."""

    zone: Zone | None
    outcomes: tuple[Outcome, ...]
    referral: str | None = None
    """The delegated name, when another server must be asked."""


def _shuffled(rrset: RRset) -> bool:
    return len(rrset.values) > 1 and rrset.type in _ROTATED_TYPES


def record_healthy(record: Record, zone: Zone, conditions: Conditions) -> bool:
    """Healthy as the table of the Developer Guide says: check and (if evaluated) alias target."""
    if record.health_check is not None and not conditions.checks[record.health_check]:
        return False
    if record.alias is None or not record.alias.evaluate_target_health:
        return True
    if record.alias.hosted_zone_id != zone.id:
        region = conditions.targets[record.alias.dns_name].region
        return region not in conditions.unavailable_regions
    members = zone.groups[record.alias.dns_name, record.type]
    return any(record_healthy(member, zone, conditions) for member in members)


def eligible(group: Group, is_healthy: Callable[[Record], bool]) -> tuple[tuple[Record, int], ...]:
    """The records among which the group's policy draws now, with their weights; never empty.

    When no record is healthy all count as healthy: the fail-open rule.
    """
    healthy = tuple(record for record in group if is_healthy(record)) or group
    policy = group[0].policy
    if policy == "failover":
        primaries = tuple(record for record in healthy if record.failover == "PRIMARY")
        return (((primaries or healthy)[0], 1),)
    if policy == "weighted":
        weighted = tuple((record, record.weight or 0) for record in healthy)
        nonzero = tuple(pair for pair in weighted if pair[1] > 0)
        return nonzero or tuple((record, 1) for record, _ in weighted)
    return tuple((record, 1) for record in healthy)


def group_outcomes(
    group: Group, zone: Zone, owner: str, conditions: Conditions
) -> tuple[Outcome, ...]:
    """Every answer that this group can give now, under the name `owner`."""
    candidates = eligible(group, lambda record: record_healthy(record, zone, conditions))
    if group[0].policy == "multivalue":
        values = dict.fromkeys(value for record, _ in candidates for value in record.values)
        rrset = RRset(owner, group[0].type, group[-1].ttl or 0, tuple(values))
        return (Outcome(_WHOLE, (rrset,), at_most=MULTIVALUE_LIMIT),)
    total = sum(weight for _, weight in candidates)
    return tuple(
        replace(outcome, share=outcome.share * weight / total)
        for record, weight in candidates
        for outcome in _record_outcomes(record, zone, owner, conditions)
    )


def _record_outcomes(
    record: Record, zone: Zone, owner: str, conditions: Conditions
) -> tuple[Outcome, ...]:
    if record.alias is None:
        rrset = RRset(owner, record.type, record.ttl or 0, record.values)
        return (Outcome(_WHOLE, (rrset,)),)
    if record.alias.hosted_zone_id == zone.id:
        members = zone.groups[record.alias.dns_name, record.type]
        return group_outcomes(members, zone, owner, conditions)
    value = _value(record.type, conditions.targets[record.alias.dns_name].address)
    if value is None:
        return (Outcome(_WHOLE, (), "nodata"),)
    return (Outcome(_WHOLE, (RRset(owner, record.type, conditions.alias_ttl, (value,)),)),)


def _value(rtype: str, address: str) -> str | None:
    """The address as a record of this type has it. For AAAA an IPv4 address is given in its mapped
    form, to which an IPv6 socket connects by IPv4: of IPv6, loopback has one address only.
    """
    version = ipaddress.ip_address(address).version
    if rtype == "AAAA":
        return f"::ffff:{address}" if version == 4 else address
    return address if version == 4 else None


def decide(zones: Iterable[Zone], name: str, rtype: str, conditions: Conditions) -> Decision:
    """The possible answers to a question.

    Args:
        name: as `records.normal_name` writes it.
        rtype: a type's name, or `ANY`.
    """
    zone = zone_for(zones, name)
    if zone is None:
        return Decision(None, ())
    cut = _delegation(zone, name)
    if cut is not None and not (cut == name and rtype == "DS"):
        return Decision(zone, (), cut)
    return Decision(zone, _name_outcomes(zone, name, rtype, conditions, _CNAME_LIMIT))


def _delegation(zone: Zone, name: str) -> str | None:
    found = None
    while zone.cuts and name != zone.name:
        if name in zone.cuts:
            found = name
        name = parent(name)
    return found


def _name_outcomes(
    zone: Zone, name: str, rtype: str, conditions: Conditions, hops: int
) -> tuple[Outcome, ...]:
    node = _node(zone, name)
    if node is None:
        return (Outcome(_WHOLE, (), "nxdomain"),)
    if rtype == "ANY":
        return _any_outcomes(zone, node, name, conditions)
    group = zone.groups.get((node, rtype))
    if group is not None:
        return group_outcomes(group, zone, name, conditions)
    group = zone.groups.get((node, "CNAME"))
    if group is None:
        return (Outcome(_WHOLE, (), "nodata"),)
    return tuple(
        followed
        for outcome in group_outcomes(group, zone, name, conditions)
        for followed in _follow(outcome, zone, rtype, conditions, hops)
    )


def _node(zone: Zone, name: str) -> str | None:
    """The name itself, or the wildcard that stands for it (RFC 4592), or None."""
    if name in zone.names:
        return name
    encloser = parent(name)
    while encloser not in zone.names:
        encloser = parent(encloser)
    wildcard = f"*.{encloser}"
    return wildcard if wildcard in zone.names else None


def _follow(
    outcome: Outcome, zone: Zone, rtype: str, conditions: Conditions, hops: int
) -> tuple[Outcome, ...]:
    """Adds what a CNAME's target answers, when the target is in the same zone."""
    target = normal_name(outcome.rrsets[0].values[0])
    outside = not is_within(target, zone.name) or _delegation(zone, target) is not None
    if outside or hops == 0:
        return (outcome,)
    return tuple(
        replace(rest, share=outcome.share * rest.share, rrsets=outcome.rrsets + rest.rrsets)
        for rest in _name_outcomes(zone, target, rtype, conditions, hops - 1)
    )


def _any_outcomes(zone: Zone, node: str, name: str, conditions: Conditions) -> tuple[Outcome, ...]:
    """The likeliest answer of each type: `ANY` is for people who look, not for clients."""
    rrsets: list[RRset] = []
    for (owner, _), group in zone.groups.items():
        if owner == node:
            outcomes = group_outcomes(group, zone, name, conditions)
            rrsets += max(outcomes, key=lambda outcome: outcome.share).rrsets
    return (Outcome(_WHOLE, tuple(rrsets), "answer" if rrsets else "nodata"),)


def pick(outcomes: tuple[Outcome, ...], rng: random.Random) -> Outcome:
    """Draws one outcome by its share, its values in random order and not more than allowed."""
    outcome = outcomes[0]
    if len(outcomes) > 1:
        outcome = rng.choices(outcomes, [float(choice.share) for choice in outcomes])[0]
    return outcome if outcome.fixed else shuffle(outcome, rng)


def shuffle(outcome: Outcome, rng: random.Random) -> Outcome:
    """The same outcome with its addresses in random order, the last RRset cut to `at_most`."""
    rrsets = []
    for position, rrset in enumerate(outcome.rrsets):
        count = len(rrset.values)
        if outcome.at_most is not None and position == len(outcome.rrsets) - 1:
            count = min(count, outcome.at_most)
        if _shuffled(rrset) or count < len(rrset.values):
            rrset = replace(rrset, values=tuple(rng.sample(rrset.values, count)))
        rrsets.append(rrset)
    return replace(outcome, rrsets=tuple(rrsets))
