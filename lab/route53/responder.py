"""Query bytes in, answer bytes out; remembers finished answers until something changes.

The memory's key is the whole query but its id, so whatever a client varies (letter case, EDNS
size, cookies) has an entry of its own and needs no thought. A weighted name is remembered as its
possible packets with their shares; only answers in random order are built each time.

Downside: a client that varies its queries on purpose fills the memory, which is then emptied.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from lab.route53 import wire
from lab.route53.records import Zone
from lab.route53.selection import Conditions, Decision, Outcome, RRset, decide, pick

_MEMORY_LIMIT = 4096
_RCODES = {"answer": wire.NOERROR, "nodata": wire.NOERROR, "nxdomain": wire.NXDOMAIN}

_Draw = tuple[tuple[bytes, ...], list[float]]
"""Possible packets (without ids) and their shares."""


class Responder:
    """Answers for zones under conditions that change; not thread-safe."""

    def __init__(
        self,
        zones: tuple[Zone, ...],
        conditions: Callable[[], Conditions],
        rng: random.Random,
    ) -> None:
        self.answers = 0
        """How many answers were given."""
        self._zones = zones
        self._conditions = conditions
        self._rng = rng
        self._fixed: dict[bytes, bytes] = {}
        self._drawn: dict[bytes, _Draw] = {}

    def forget(self) -> None:
        """Drops all remembered answers: to be called upon any change of the conditions."""
        self._fixed.clear()
        self._drawn.clear()

    def answer_udp(self, packet: bytes) -> bytes | None:
        """The answer, cut to what the client can take; None when there is nothing to say."""
        key = packet[2:]
        body = self._fixed.get(key)
        if body is None:
            drawn = self._drawn.get(key)
            if drawn is None:
                return self._answer(packet, stream=False)
            body = self._rng.choices(*drawn)[0]
        self.answers += 1
        return packet[:2] + body

    def answer_tcp(self, packet: bytes) -> bytes | None:
        """The whole answer; None when there is nothing to say."""
        return self._answer(packet, stream=True)

    def _answer(self, packet: bytes, *, stream: bool) -> bytes | None:
        query = wire.read_query(packet)
        if query is None:
            return None
        self.answers += 1
        if isinstance(query, wire.Unreadable):
            return wire.build_error(query)
        if query.refusal:
            return wire.build(query, query.refusal, authoritative=False)
        decision = decide(self._zones, query.name, query.type, self._conditions())
        if stream:
            return self._pack(query, decision, _drawn(decision, self._rng))
        if all(outcome.fixed for outcome in decision.outcomes):
            return packet[:2] + self._remember(packet[2:], query, decision)
        return self._fit(query, self._pack(query, decision, _drawn(decision, self._rng)))

    def _remember(self, key: bytes, query: wire.Query, decision: Decision) -> bytes:
        """Keeps all possible answers and returns one (without id)."""
        if len(self._fixed) + len(self._drawn) >= _MEMORY_LIMIT:
            self.forget()
        outcomes = decision.outcomes or (None,)
        packets = tuple(
            self._fit(query, self._pack(query, decision, outcome))[2:] for outcome in outcomes
        )
        if len(packets) == 1:
            self._fixed[key] = packets[0]
            return packets[0]
        draw = self._drawn[key] = (packets, [float(o.share) for o in decision.outcomes])
        return self._rng.choices(*draw)[0]

    def _fit(self, query: wire.Query, packet: bytes) -> bytes:
        if len(packet) <= query.udp_size:
            return packet
        return wire.build(query, truncated=True)

    def _pack(self, query: wire.Query, decision: Decision, outcome: Outcome | None) -> bytes:
        zone = decision.zone
        if zone is None:
            return wire.build(query, wire.REFUSED, authoritative=False)
        if outcome is None:
            cut = decision.referral or zone.name
            servers = zone.groups[cut, "NS"][0]
            rrset = RRset(cut, "NS", servers.ttl or 0, servers.values)
            return wire.build(
                query, authority=(rrset,), additional=_glue(zone, rrset), authoritative=False
            )
        authority = () if outcome.status == "answer" else (negative_soa(zone),)
        return wire.build(query, _RCODES[outcome.status], outcome.rrsets, authority)


def _drawn(decision: Decision, rng: random.Random) -> Outcome | None:
    return pick(decision.outcomes, rng) if decision.outcomes else None


def negative_soa(zone: Zone) -> RRset:
    """The SOA that goes with "no such name" and "no such type".

    Its TTL tells resolvers how long to believe that: the smaller of its own TTL and of its last
    field (RFC 2308).
    """
    soa = zone.groups[zone.name, "SOA"][0]
    minimum = int(soa.values[0].split()[-1])
    return RRset(zone.name, "SOA", min(soa.ttl or 0, minimum), soa.values)


def _glue(zone: Zone, servers: RRset) -> tuple[RRset, ...]:
    """Addresses of delegated name servers that this zone itself holds."""
    found = []
    for server in servers.values:
        name = server.lower().removesuffix(".")
        for rtype in ("A", "AAAA"):
            for record in zone.groups.get((name, rtype), ()):
                if record.alias is None:
                    found.append(RRset(name, rtype, record.ttl or 0, record.values))
    return tuple(found)
