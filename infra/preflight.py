"""What is checked before a deployment begins anything: who asks, the domain, its zone, the regions.

Downside: delegation of the domain is not asked of the DNS; a zone that nobody delegates to shows as
a certificate that stays pending (`certificate_help` says what to do then).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.backend import StackState
from infra.clients import Clients
from infra.cloudformation import CloudFormation
from infra.errors import SetupError, explained
from infra.naming import TAG_REGIONS
from infra.stacks import ARC_TYPE_REGIONS, ZONE, global_region
from infra.steps import Stack
from infra.topology import Topology

RESERVED = ("test", "example", "invalid", "localhost", "local", "internal")
"""Ends of names that no registrar sells (RFC 2606, 6761, 6762)."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks, and which zone is used."""

    number: str
    identity: str
    hosted_zone: str
    """Id of a zone that existed before; empty when the deployment makes its own."""
    role: str = ""
    """CloudFormation's service role; empty when it works with the caller's credentials."""


def check(
    clients: Clients, topology: Topology, hosted_zone: str, command: str, role: str = ""
) -> Account:
    """Raises CredentialsError or SetupError. `hosted_zone` and `role`: given by the person, or
    empty; those that the deployment already uses are found again, so that whoever goes on with it
    need not know them."""
    _domain(topology, command)
    number = identity = ""
    for region in topology.regions:
        with explained("credentials", region, command):
            who = clients.get("sts", region).get_caller_identity()
        number, identity = who["Account"], who["Arn"]
    zone = _deployed_zone(clients, topology, hosted_zone, command)
    _zone(clients, topology, zone, command)
    return Account(number, identity, zone.existing, role or zone.role)


def refuse_options(topology: Topology, account: Account, command: str) -> None:
    """Before a deployment: options that do not go with what the account has. Raises SetupError."""
    if topology.options.accelerated_recovery and account.hosted_zone:
        zone = account.hosted_zone
        raise SetupError(
            f"options.accelerated_recovery is for a zone that the deployment makes; {zone} was "
            "there before, and may belong to others too",
            f"take it out of topology.toml, then: {command}; to have it for {zone}, once: "
            f"aws route53 update-hosted-zone-features --hosted-zone-id {zone} "
            "--enable-accelerated-recovery",
        )


def _domain(topology: Topology, command: str) -> None:
    if topology.domain.rsplit(".", 1)[-1] in RESERVED or topology.domain in (
        "example.com", "example.net", "example.org",
    ):  # fmt: skip
        raise SetupError(
            f"{topology.domain} cannot be deployed: nobody can own that name",
            f'put a domain that you own into topology.toml (domain = "…"), then: {command}',
        )


@dataclass(frozen=True, slots=True)
class _Zone:
    existing: str
    """Id of a zone that existed before the deployment."""
    deployed: bool
    """There is a zone step already."""
    role: str = ""
    """The service role that its stack was made with."""


def _deployed_zone(clients: Clients, topology: Topology, given: str, command: str) -> _Zone:
    """Looks wherever the zone step may be, so that a topology whose regions were changed is
    recognised instead of deployed a second time."""
    for region in dict.fromkeys((*topology.regions, *ARC_TYPE_REGIONS)):
        state = zone_stack(clients, topology, region, command)
        if state is None:
            continue
        regions = state.tags.get(TAG_REGIONS, "").split("+")
        if tuple(regions) != topology.regions:
            raise SetupError(
                f"{topology.domain} is deployed for the regions {', '.join(regions)}; "
                f"topology.toml says {', '.join(topology.regions)}",
                "put the old regions back (the first is the primary for ever; a move does not "
                f"change it), or take everything down first: infra destroy; then: {command}",
            )
        if region != global_region(topology):
            raise SetupError(
                f"what belongs to no region is deployed in {region}; with the switches of "
                f"topology.toml it would have to be in {global_region(topology)}",
                'put the old switches back (the first entry with "arc", or the last one, moves it '
                f"between these regions), or with them take it down first: infra destroy; then: "
                f"{command}",
            )
        existing = state.parameters.get("ExistingHostedZoneId", "")
        if given and given != existing:
            raise SetupError(
                f"the deployment uses the zone {existing or 'that it made itself'}, not {given}",
                f"leave --hosted-zone away: {command}",
            )
        return _Zone(existing, True, state.role)
    return _Zone(given, False)


def zone_stack(
    clients: Clients, topology: Topology, region: str, command: str
) -> StackState | None:
    """The stack of the zone step in `region`, if there is one that is this deployment's."""
    backend = CloudFormation(clients, topology, say=str, command=command)
    return backend.describe(Stack(ZONE, region, "zone.yaml"))


def _zone(clients: Clients, topology: Topology, zone: _Zone, command: str) -> None:
    client = clients.get("route53", topology.primary)
    if zone.existing:
        with explained(f"hosted zone {zone.existing}", "global", command):
            found = client.get_hosted_zone(Id=zone.existing)["HostedZone"]
        name = found["Name"].rstrip(".")
        private = found.get("Config", {}).get("PrivateZone", False)
        if name != topology.domain or private:
            raise SetupError(
                f"zone {zone.existing} is the {'private' if private else 'public'} zone of {name}, "
                f"not the public one of {topology.domain}",
                f"correct the id or the domain in topology.toml, then: {command}",
            )
    elif not zone.deployed:
        with explained("hosted zones", "global", command):
            answer = client.list_hosted_zones_by_name(DNSName=topology.domain, MaxItems="10")
        ids = public_zones(answer["HostedZones"], topology.domain)
        if ids:
            raise SetupError(
                f"there is a public zone of {topology.domain} already: {', '.join(ids)}; a second "
                "one would not be the one that the registrar delegates to",
                f"use it: {command} --hosted-zone {ids[0]}; or delete it first, if it is unused",
            )


def public_zones(zones: list[dict[str, Any]], domain: str) -> list[str]:
    """Ids of the public zones of `domain` in an answer of ListHostedZonesByName."""
    return [
        zone["Id"].rsplit("/", 1)[-1]
        for zone in zones
        if zone["Name"].rstrip(".") == domain and not zone["Config"].get("PrivateZone", False)
    ]


def certificate_help(
    clients: Clients, topology: Topology, region: str, zone_id: str, command: str
) -> list[str]:
    """What a person can do about a certificate that is not issued: the records that ACM looks for,
    and the name servers that the registrar has to name."""
    lines = []
    acm = clients.get("acm", region)
    with explained("certificate", region, command):
        pending = [
            found["CertificateArn"]
            for page in acm.get_paginator("list_certificates").paginate(
                CertificateStatuses=["PENDING_VALIDATION"]
            )
            for found in page["CertificateSummaryList"]
            if found["DomainName"] == f"*.{topology.domain}"
        ]
        for arn in pending:
            options = acm.describe_certificate(CertificateArn=arn)["Certificate"].get(
                "DomainValidationOptions", []
            )
            records = (o["ResourceRecord"] for o in options if "ResourceRecord" in o)
            lines += [f"{r['Name']} {r['Type']} {r['Value']}" for r in records]
        zone = clients.get("route53", region).get_hosted_zone(Id=zone_id)
    servers = ", ".join(zone.get("DelegationSet", {}).get("NameServers", []))
    return [
        f"certificate in {region} is pending validation; ACM looks for",
        *(f"    {line}" for line in dict.fromkeys(lines)),
        f"  they are in zone {zone_id}. The registrar of {topology.domain} must name its servers:",
        f"    {servers}",
        f"  check: dig +short NS {topology.domain}   (this goes on by itself once that is right)",
    ]
