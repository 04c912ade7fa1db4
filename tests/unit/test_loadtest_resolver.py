"""The DNS cache: TTL, single flight, failures; and reading DNS answers. No sockets."""

from __future__ import annotations

from collections import Counter

import dnslib
import gevent
import pytest
from gevent.event import Event

from loadtest.errors import NameNotFound, ResolveError, ResolverUnavailable
from loadtest.resolver import Resolver, literal_or, parse_name_servers, read_answer

HOST = "api.example.test"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class NameServer:
    """A look-up whose answer can be changed; `asked` counts the questions."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ("10.0.0.1",)
        self.ttl = 10.0
        self.error: ResolveError | None = None
        self.asked = 0
        self.gate: Event | None = None

    def __call__(self, host: str) -> tuple[tuple[str, ...], float]:
        self.asked += 1
        if self.gate is not None:
            self.gate.wait(5)
        if self.error is not None:
            raise self.error
        return self.addresses, self.ttl


@pytest.fixture
def server() -> NameServer:
    return NameServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters() -> Counter[str]:
    return Counter()


@pytest.fixture
def resolver(server: NameServer, clock: Clock, counters: Counter[str]) -> Resolver:
    return Resolver(server, counters, clock, stale_limit=30.0)


def test_an_answer_is_used_for_its_ttl_and_not_longer(
    resolver: Resolver, server: NameServer, clock: Clock, counters: Counter[str]
) -> None:
    assert resolver.addresses(HOST) == ("10.0.0.1",)
    server.addresses = ("10.0.0.2",)
    clock.now += 9.999
    assert resolver.addresses(HOST) == ("10.0.0.1",)
    clock.now += 0.001
    assert resolver.addresses(HOST) == ("10.0.0.2",)
    assert counters == {"lookups": 2, "changes": 1}


def test_the_order_of_addresses_is_no_change(
    resolver: Resolver, server: NameServer, clock: Clock, counters: Counter[str]
) -> None:
    server.addresses = ("10.0.0.1", "10.0.0.2")
    resolver.addresses(HOST)
    clock.now += 10
    server.addresses = ("10.0.0.2", "10.0.0.1")
    resolver.addresses(HOST)
    assert counters["changes"] == 0


def test_the_ttl_counts_from_the_question(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    server.gate = Event()
    waiting = gevent.spawn(resolver.addresses, HOST)
    gevent.sleep(0)
    clock.now += 4
    server.gate.set()
    waiting.get(timeout=5)
    clock.now += 6
    resolver.addresses(HOST)
    assert server.asked == 2


@pytest.mark.parametrize("ttl", [10.0, 0.0])
def test_many_users_ask_once(resolver: Resolver, server: NameServer, ttl: float) -> None:
    server.ttl = ttl
    server.gate = Event()
    users = [gevent.spawn(resolver.addresses, HOST) for _ in range(200)]
    gevent.sleep(0)
    server.gate.set()
    gevent.joinall(users, timeout=5, raise_error=True)
    assert {user.value for user in users} == {("10.0.0.1",)}
    assert server.asked == 1


def test_the_last_answer_is_kept_for_a_while_when_nobody_answers(
    resolver: Resolver, server: NameServer, clock: Clock, counters: Counter[str]
) -> None:
    resolver.addresses(HOST)
    server.error = ResolverUnavailable("no name server answered")
    clock.now += 10
    assert resolver.addresses(HOST) == ("10.0.0.1",)
    assert resolver.addresses(HOST) == ("10.0.0.1",)
    assert (server.asked, counters["failures"], counters["kept"]) == (2, 1, 1)
    clock.now += 30
    with pytest.raises(ResolverUnavailable, match="no name server answered"):
        resolver.addresses(HOST)
    server.error = None
    clock.now += 1
    assert resolver.addresses(HOST) == ("10.0.0.1",)


def test_many_users_share_one_failure(
    resolver: Resolver, server: NameServer, counters: Counter[str]
) -> None:
    server.error = ResolverUnavailable("silence")
    for _ in range(5):
        with pytest.raises(ResolverUnavailable):
            resolver.addresses(HOST)
    assert server.asked == 1


def test_an_answer_that_there_is_no_address_is_an_answer(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    resolver.addresses(HOST)
    server.error = NameNotFound("gone")
    clock.now += 10
    with pytest.raises(NameNotFound):
        resolver.addresses(HOST)


def test_resolve_errors_count_as_network_errors_for_locust() -> None:
    assert issubclass(ResolveError, OSError)


def test_an_ip_address_is_its_own_answer(server: NameServer) -> None:
    lookup = literal_or(server)
    assert lookup("127.0.1.10") == (("127.0.1.10",), float("inf"))
    assert lookup(HOST) == (("10.0.0.1",), 10.0)


def test_name_servers_are_parsed() -> None:
    assert parse_name_servers("127.0.0.1:1053, ns-1.example.test") == (
        ("127.0.0.1", 1053),
        ("ns-1.example.test", 53),
    )
    with pytest.raises(ValueError, match="without a host"):
        parse_name_servers(":53")


def answer(*records: str, code: str = "NOERROR") -> dnslib.DNSRecord:
    reply = dnslib.DNSRecord.question(HOST).reply()
    reply.header.rcode = getattr(dnslib.RCODE, code)
    for record in records:
        reply.add_answer(*dnslib.RR.fromZone(record))
    return reply


def test_addresses_and_the_smallest_ttl_are_read() -> None:
    found = read_answer(answer(f"{HOST}. 60 A 10.0.0.1", f"{HOST}. 30 A 10.0.0.2"), HOST)
    assert found == (("10.0.0.1", "10.0.0.2"), "", 30)


def test_names_are_compared_without_case() -> None:
    assert read_answer(answer("API.Example.TEST. 5 A 10.0.0.1"), HOST)[0] == ("10.0.0.1",)


def test_an_alias_within_the_answer_is_followed() -> None:
    records = answer(f"{HOST}. 5 CNAME d-1.example.test.", "d-1.example.test. 60 A 10.0.0.9")
    assert read_answer(records, HOST) == (("10.0.0.9",), "", 5)


def test_an_alias_that_leads_out_of_the_answer_is_to_be_asked_for() -> None:
    records = answer(f"{HOST}. 5 CNAME d-1.example.test.")
    assert read_answer(records, HOST) == ((), "d-1.example.test", 5)


@pytest.mark.parametrize(
    ("records", "code", "error"),
    [
        ((), "NOERROR", NameNotFound),
        ((), "NXDOMAIN", NameNotFound),
        ((), "SERVFAIL", ResolverUnavailable),
        ((), "REFUSED", ResolverUnavailable),
        (("other.example.test. 5 A 10.0.0.1",), "NOERROR", NameNotFound),
        ((f"{HOST}. 5 CNAME {HOST}.",), "NOERROR", NameNotFound),
    ],
)
def test_answers_without_an_address(
    records: tuple[str, ...], code: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read_answer(answer(*records, code=code), HOST)
