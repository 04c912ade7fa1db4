"""What a hosted zone holds: records, grouped by name and type, and the tree of names.

A group is all the records of one name and type; its routing policy picks among them. Names are
lower case, have no final dot, and bytes other than printable ASCII are written `\\ddd` (octal), as
Route 53 writes them.

Downside: names are text, not labels, so the wire module must escape a dot inside a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Policy = Literal["simple", "failover", "weighted", "multivalue"]

SOA_TTL = 900
NS_TTL = 172_800
SOA_TIMES = (7200, 900, 1_209_600, 86_400)
"""Refresh, retry, expire, minimum (Route 53 Developer Guide, "NS and SOA records")."""

RECORD_TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT")
"""The types that the lab answers with."""


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias record points."""

    dns_name: str
    hosted_zone_id: str
    evaluate_target_health: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record set: values with a TTL in seconds, or an alias."""

    name: str
    type: str
    ttl: int | None
    values: tuple[str, ...]
    alias: Alias | None
    policy: Policy
    set_identifier: str | None
    failover: str | None
    """`PRIMARY` or `SECONDARY`."""
    weight: int | None
    health_check: str | None
    """Id of the health check."""

    @property
    def label(self) -> str:
        """How messages and events call this record."""
        suffix = f" ({self.set_identifier})" if self.set_identifier is not None else ""
        return f"{self.name} {self.type}{suffix}"


GroupKey = tuple[str, str]
Group = tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Zone:
    """A hosted zone with its index. Make one with `make_zone`."""

    id: str
    name: str
    groups: Mapping[GroupKey, Group]
    names: frozenset[str]
    """Every name that exists, empty non-terminals too."""
    cuts: frozenset[str]
    """Names below the apex that carry NS records: delegated to other servers."""


def normal_name(name: str) -> str:
    """Lower case, no final dot, `\\052` written as `*` (how Route 53 stores a wildcard)."""
    return name.lower().removesuffix(".").replace("\\052", "*")


def parent(name: str) -> str:
    """The name without its first label; the root is the empty string."""
    return name.partition(".")[2]


def is_within(name: str, zone_name: str) -> bool:
    """Is the name the zone's apex or below it?"""
    return name == zone_name or name.endswith(f".{zone_name}")


def group_records(records: Iterable[Record]) -> dict[GroupKey, Group]:
    """The records by (name, type), in their order."""
    groups: dict[GroupKey, list[Record]] = {}
    for record in records:
        groups.setdefault((record.name, record.type), []).append(record)
    return {key: tuple(members) for key, members in groups.items()}


def make_zone(
    zone_id: str, name: str, name_servers: tuple[str, ...], records: Iterable[Record]
) -> Zone:
    """A zone from its records; the apex NS and SOA that Route 53 adds come by themselves.

    A record below the zone's name only; faults are the business of `validation`.
    """
    groups = group_records(records)
    refresh, retry, expire, minimum = SOA_TIMES
    soa = f"{name_servers[0]}. awsdns-hostmaster.amazon.com. 1 {refresh} {retry} {expire} {minimum}"
    groups.setdefault((name, "SOA"), (simple(name, "SOA", SOA_TTL, soa),))
    groups.setdefault(
        (name, "NS"), (simple(name, "NS", NS_TTL, *(f"{server}." for server in name_servers)),)
    )
    names = set()
    for owner, _ in groups:
        while is_within(owner, name) and owner not in names:
            names.add(owner)
            owner = parent(owner)
    cuts = frozenset(owner for owner, rtype in groups if rtype == "NS" and owner != name)
    return Zone(zone_id, name, groups, frozenset(names), cuts)


def simple(name: str, rtype: str, ttl: int, *values: str) -> Record:
    """A record of the simple policy."""
    return Record(name, rtype, ttl, values, None, "simple", None, None, None, None)


def zone_for(zones: Iterable[Zone], name: str) -> Zone | None:
    """The most specific zone that the name is in."""
    matching = [zone for zone in zones if is_within(name, zone.name)]
    return max(matching, key=lambda zone: len(zone.name), default=None)
