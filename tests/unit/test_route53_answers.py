"""Packets in, packets out, without a socket: read by dnspython, which knows nothing of dnslib."""

from __future__ import annotations

import json
import random
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.model import Deployment, Resource
from lab.route53 import Route53
from lab.route53.wire import text_name, wire_name
from lab.settings import PROFILES

REGIONS = {"us-east-1": "127.0.1.10", "us-west-2": "127.0.2.10"}
TARGETS = {f"d-1.execute-api.{r}.amazonaws.com": (address, r) for r, address in REGIONS.items()}


def resource(kind: str, ident: str, **properties: Any) -> Resource:
    attributes = {"NameServers": ["ns-7.awsdns-07.org", "ns-8.awsdns-08.net"]}
    return Resource("s", "us-east-1", ident, f"AWS::Route53::{kind}", ident, properties, attributes)


def record(name: str, kind: str, *values: str, **properties: Any) -> Resource:
    body = {"TTL": "30", "ResourceRecords": list(values), **properties}
    if "AliasTarget" in body:
        del body["TTL"], body["ResourceRecords"]
    return resource(
        "RecordSet", f"{name} {kind} {body}", HostedZoneId="Z1", Name=name, Type=kind, **body
    )


def pair(service: str) -> list[Resource]:
    """A service's health checks and failover aliases; its controls are `<service>/<region>`."""
    found = []
    for region, side in zip(REGIONS, ("PRIMARY", "SECONDARY"), strict=True):
        check = f"{service}-{region}"
        config = {"Type": "RECOVERY_CONTROL", "RoutingControlArn": f"{service}/{region}"}
        found.append(resource("HealthCheck", check, HealthCheckConfig=config))
        found.append(
            record(
                f"{service}.example.test",
                "A",
                SetIdentifier=region,
                Failover=side,
                HealthCheckId=check,
                AliasTarget={
                    "DNSName": f"d-1.execute-api.{region}.amazonaws.com",
                    "HostedZoneId": "ZAPI",
                    "EvaluateTargetHealth": True,
                },
            )
        )
    return found


RESOURCES = (
    resource("HostedZone", "Z1", Name="example.test"),
    *pair("service1"),
    *pair("service2"),
    *(
        record("weighted.example.test", "A", f"127.0.9.{w}", SetIdentifier=str(w), Weight=w)
        for w in (1, 3)
    ),
    record("many.example.test", "A", *(f"127.0.8.{i}" for i in range(1, 61))),
    record("text.example.test", "TXT", '"one" "t\\"wo"'),
    record("big.example.test", "TXT", *(f'"{i:03}{"x" * 240}"' for i in range(20))),
    record("www.example.test", "CNAME", "service1.example.test"),
    record("child.example.test", "NS", "ns.child.example.test."),
    record("ns.child.example.test", "A", "127.0.7.7"),
)


def route53(profile: str = "aws", **options: Any) -> Route53:
    built = Route53(
        Deployment(RESOURCES, {}), PROFILES[profile], TARGETS, rng=random.Random(1), **options
    )
    for service in ("service1", "service2"):
        built.set_routing_control(f"{service}/us-east-1", True)
    return built


def ask(server: Route53, name: str, kind: str = "A", **options: Any) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    packet = server.answer(query.to_wire())
    assert packet is not None
    reply = dns.message.from_wire(packet)
    assert query.is_response(reply)
    return reply


def values(reply: dns.message.Message) -> list[str]:
    return [str(value) for rrset in reply.answer for value in rrset]


@pytest.mark.semantics(48)
def test_alias_looks_like_an_a_record() -> None:
    reply = ask(route53(), "service1.example.test")
    (rrset,) = reply.answer
    assert (rrset.rdtype, rrset.ttl, values(reply)) == (dns.rdatatype.A, 60, ["127.0.1.10"])
    assert reply.flags & dns.flags.AA
    assert not reply.flags & dns.flags.RA
    for kind in ("CNAME", "AAAA", "TXT"):
        assert not ask(route53(), "service1.example.test", kind).answer


@pytest.mark.semantics(49)
@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nothing.example.test", "A", dns.rcode.NXDOMAIN),
        ("service1.example.test", "AAAA", dns.rcode.NOERROR),
        ("service1.example.test", "TYPE65280", dns.rcode.NOERROR),
    ],
)
def test_negative_answers_carry_the_soa(name: str, kind: str, rcode: int) -> None:
    reply = ask(route53(), name, kind)
    assert reply.rcode() == rcode
    assert not reply.answer
    (soa,) = reply.authority
    assert soa.name.to_text() == "example.test."
    assert (soa.ttl, soa[0].minimum, soa[0].refresh) == (900, 86400, 7200)
    assert soa[0].mname.to_text() == "ns-7.awsdns-07.org."
    assert min(soa.ttl, soa[0].minimum) == 900


def test_apex_soa_and_name_servers() -> None:
    (soa,) = ask(route53(), "example.test", "SOA").answer
    assert soa.ttl == 900
    (servers,) = ask(route53(), "EXAMPLE.test", "NS").answer
    assert sorted(map(str, servers)) == ["ns-7.awsdns-07.org.", "ns-8.awsdns-08.net."]


class Resolver:
    """A caching resolver that keeps an answer for its TTL by a clock that the test moves."""

    def __init__(self, server: Route53, clock: Callable[[], float]) -> None:
        self._server, self._clock = server, clock
        self._kept: dict[str, tuple[float, list[str]]] = {}

    def resolve(self, name: str) -> list[str]:
        kept = self._kept.get(name)
        if kept is None or kept[0] <= self._clock():
            reply = ask(self._server, name)
            kept = self._kept[name] = (self._clock() + reply.answer[0].ttl, values(reply))
        return kept[1]


@pytest.mark.semantics(50)
def test_resolver_holds_the_old_answer_until_its_ttl() -> None:
    now = [1000.0]
    server, profile = route53(), PROFILES["aws"]
    held = Resolver(server, lambda: now[0])
    held.resolve("service1.example.test")
    commanded = now[0]
    now[0] = commanded + profile.propagation - 0.001
    late = Resolver(server, lambda: now[0])
    assert late.resolve("service1.example.test") == ["127.0.1.10"]
    now[0] = commanded + profile.propagation
    server.set_routing_control("service1/us-west-2", True)
    server.set_routing_control("service1/us-east-1", False)
    assert values(ask(server, "service1.example.test")) == ["127.0.2.10"], "a new look-up sees it"
    assert held.resolve("service1.example.test") == ["127.0.1.10"]
    now[0] = commanded + 60
    assert held.resolve("service1.example.test") == ["127.0.2.10"]
    assert late.resolve("service1.example.test") == ["127.0.1.10"]
    now[0] = commanded + profile.propagation + 60
    assert late.resolve("service1.example.test") == ["127.0.2.10"]


@pytest.mark.semantics(53)
def test_one_service_moves_alone_and_events_say_so() -> None:
    events: list[dict[str, Any]] = []
    server = route53(on_event=events.append, clock=lambda: 12.5)
    events.clear()
    before = ask(server, "service2.example.test").answer
    server.set_routing_control("service1/us-west-2", True)
    server.set_routing_control("service1/us-east-1", False)
    server.set_routing_control("service1/us-east-1", False)
    server.set_routing_control("unknown", True)
    assert values(ask(server, "service1.example.test")) == ["127.0.2.10"]
    assert values(ask(server, "www.example.test"))[1:] == ["127.0.2.10"]
    assert ask(server, "service2.example.test").answer == before
    assert [(e["kind"], e.get("health_check"), e.get("name")) for e in events] == [
        ("health_check_changed", "service1-us-west-2", None),
        ("health_check_changed", "service1-us-east-1", None),
        ("answer_changed", None, "service1.example.test"),
    ]
    assert events[-1]["at"] == 12.5
    assert events[-1]["before"][0]["values"] == ["127.0.1.10"]
    assert events[-1]["after"] == [{"values": ["127.0.2.10"], "share": 1.0}]
    json.dumps([events, server.status()])


@pytest.mark.semantics(41)
def test_service_outage_moves_every_evaluated_alias_of_the_region() -> None:
    server = route53()
    for service in ("service1", "service2"):
        server.set_routing_control(f"{service}/us-west-2", True)
    server.set_service_available("us-east-1", False)
    assert values(ask(server, "service1.example.test")) == ["127.0.2.10"]
    assert values(ask(server, "service2.example.test")) == ["127.0.2.10"]
    assert server.status()["unavailable_regions"] == ["us-east-1"]
    server.set_service_available("us-east-1", True)
    assert values(ask(server, "service1.example.test")) == ["127.0.1.10"]


@pytest.mark.semantics(43)
def test_weighted_packets_are_drawn_by_share() -> None:
    server = route53()
    drawn = Counter(values(ask(server, "weighted.example.test"))[0] for _ in range(1500))
    assert drawn["127.0.9.1"] / 1500 == pytest.approx(0.25, abs=0.04)
    assert drawn.total() == 1500


def test_answers_are_cut_off_where_the_client_cannot_take_more() -> None:
    server = route53()
    for options in ({}, {"use_edns": 0, "payload": 4096}):
        reply = ask(server, "big.example.test", "TXT", **options)
        assert reply.flags & dns.flags.TC
        assert not reply.answer
    assert ask(server, "many.example.test").flags & dns.flags.TC
    whole = ask(server, "many.example.test", use_edns=0, payload=4096)
    assert not whole.flags & dns.flags.TC
    assert len(values(whole)) == 60
    assert values(whole) != values(ask(server, "many.example.test", use_edns=0, payload=4096))


def test_text_strings() -> None:
    assert values(ask(route53(), "text.example.test", "TXT")) == ['"one" "t\\"wo"']


def test_edns_is_answered_in_kind() -> None:
    server = route53()
    assert ask(server, "service1.example.test").edns == -1
    reply = ask(server, "service1.example.test", use_edns=0, want_dnssec=True)
    assert (reply.edns, reply.payload) == (0, 1232)
    assert reply.flags & dns.flags.AA
    assert reply.ednsflags & dns.flags.DO
    assert ask(server, "service1.example.test", use_edns=1).rcode() == dns.rcode.BADVERS


def test_letter_case_is_repeated() -> None:
    query = dns.message.make_query("SerVice1.eXample.TEST", "A")
    packet = route53().answer(query.to_wire())
    assert packet is not None
    assert b"SerVice1\x07eXample\x04TEST" in packet
    assert values(dns.message.from_wire(packet)) == ["127.0.1.10"]


def test_referral() -> None:
    reply = ask(route53(), "x.child.example.test")
    assert not reply.flags & dns.flags.AA
    assert not reply.answer
    assert str(reply.authority[0][0]) == "ns.child.example.test."
    assert str(reply.additional[0][0]) == "127.0.7.7"


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_zone_transfers_are_refused(kind: str) -> None:
    query = bytearray(dns.message.make_query("example.test", "A").to_wire())
    query[-4:-2] = struct.pack("!H", dns.rdatatype.from_text(kind))
    packet = route53().answer(bytes(query))
    assert packet is not None
    assert packet[3] & 0xF == dns.rcode.REFUSED


def test_other_zones_and_classes_are_refused() -> None:
    server = route53()
    assert ask(server, "example.org").rcode() == dns.rcode.REFUSED
    assert ask(server, "example.test", rdclass="CH").rcode() == dns.rcode.REFUSED
    assert ask(server, ".").rcode() == dns.rcode.REFUSED


def test_any_gives_what_is_there() -> None:
    reply = ask(route53(), "example.test", "ANY")
    assert {rrset.rdtype for rrset in reply.answer} == {dns.rdatatype.SOA, dns.rdatatype.NS}


GOOD = dns.message.make_query("service1.example.test", "A", use_edns=0, id=0x1234).to_wire()


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (b"", None),
        (GOOD[:11], None),
        (GOOD[:2] + b"\x80" + GOOD[3:], None),
        (GOOD[:2] + b"\x10" + GOOD[3:], dns.rcode.NOTIMP),
        (GOOD[:2] + b"\x28" + GOOD[3:], dns.rcode.NOTIMP),
        (GOOD[:12], dns.rcode.FORMERR),
        (GOOD[:-1], dns.rcode.FORMERR),
        (GOOD[:4] + b"\x00\x02" + GOOD[6:], dns.rcode.FORMERR),
        (GOOD[:4] + b"\x00\x00" + GOOD[6:], dns.rcode.FORMERR),
        (GOOD[:12] + b"\xc0\x0c" + GOOD[14:], dns.rcode.FORMERR),
        (GOOD[:11] + b"\x02" + GOOD[12:] + GOOD[-11:], dns.rcode.FORMERR),
    ],
)
def test_malformed_packets(packet: bytes, rcode: int | None) -> None:
    reply = route53().answer(packet)
    if rcode is None:
        assert reply is None
    else:
        assert reply is not None
        assert reply[:2] == b"\x12\x34"
        assert reply[3] & 0xF == rcode


FUZZED = route53()


@settings(max_examples=300, deadline=None)
@given(
    packet=st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=60).map(lambda tail: GOOD[:12] + tail),
        st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3)).map(
            lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] + len(cut[1]) :]
        ),
    )
)
@example(packet=GOOD[:12] + b"\xc0\x0c" * 500)
@example(packet=GOOD[:12] + b"\x3f" + b"\xff" * 63 + b"\x00\x00\x01\x00\x01")
@example(packet=GOOD[:10] + b"\xff\xff" + GOOD[12:])
def test_no_packet_is_too_odd(packet: bytes) -> None:
    """Either silence or a well-formed answer with the same id and no longer than allowed."""
    reply = FUZZED.answer(packet)
    if reply is not None:
        assert reply[:2] == packet[:2]
        assert len(reply) <= 1232
        assert dns.message.from_wire(reply).flags & dns.flags.QR


@settings(max_examples=100, deadline=None)
@given(labels=st.lists(st.binary(min_size=1, max_size=63), max_size=3).map(tuple))
def test_names_survive_the_way_through_text(labels: tuple[bytes, ...]) -> None:
    lowered = tuple(label.lower() for label in labels)
    assert wire_name(text_name(labels)).label == lowered
