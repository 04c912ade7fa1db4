"""The TTL-honouring client against real TLS servers and a real name server.

Locust is not imported here: importing it would patch the whole test process for gevent.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from geventhttpclient.response import HTTPConnectionClosed
from loadtest_world import HOST, World

from loadtest.client import Limits, TtlClientPool, TtlConnectionPool, failure_reason, tls_context
from loadtest.errors import NameNotFound, ResolverUnavailable
from loadtest.resolver import Resolver, literal_or, name_server_lookup, system_lookup


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """One user's client, with a clock that only the test moves."""

    def __init__(self, world: World, **changes: Any) -> None:
        self.world = world
        self.clock = Clock()
        self.sockets: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.resolved: Counter[str] = Counter()
        servers = changes.get("servers", [(world.east.address, world.dns_port)])
        lookup = name_server_lookup(servers, timeout=changes.get("timeout", 2.0))
        self.resolver = Resolver(literal_or(lookup), self.resolved, self.clock)
        self.limits = changes.get("limits", Limits(2.0, 2.0, 30.0))
        self.context = tls_context(changes.get("ca_file", str(world.folder / "ca.pem")))
        self.pool = TtlClientPool(self._connection_pool)

    def _connection_pool(self, host: str, port: int, is_https: bool) -> TtlConnectionPool:
        assert is_https
        return TtlConnectionPool(
            host,
            port,
            self.resolver,
            self.limits,
            self.context,
            self.sockets,
            self.connections,
            self.clock,
        )

    def ask(self, method: str = "GET", host: str = HOST, body: Any = None) -> str:
        client = self.pool.get_client(f"https://{host}:{self.world.port}/")
        response = client.request(method, "/service1/", body)
        response.read()
        return str(response["x-region"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as running:
        yield running


Make = Callable[..., Client]


@pytest.fixture
def make(world: World) -> Iterator[Make]:
    """Makes clients with other limits and name servers, and closes them all."""
    made: list[Client] = []

    def one(**changes: Any) -> Client:
        made.append(Client(world, **changes))
        return made[-1]

    yield one
    for client in made:
        client.pool.close()


@pytest.fixture
def client(make: Make) -> Client:
    return make()


def test_a_connection_is_kept_while_the_answer_stays(world: World, client: Client) -> None:
    for _ in range(5):
        assert client.ask() == "us-east-1"
        client.clock.now += 2
    assert client.sockets == {world.east.address: 1}
    assert world.east.connections == 1
    assert client.resolved["lookups"] == 5


def test_the_real_host_name_is_sent_and_verified(world: World, client: Client) -> None:
    client.ask()
    assert world.east.server_names == {HOST}
    with pytest.raises(ssl.SSLCertVerificationError):
        client.ask(host="other.example.test")


def test_another_authority_is_refused(world: World, make: Make, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    client = make(ca_file=str(stranger))
    with pytest.raises(ssl.SSLCertVerificationError):
        client.ask()
    assert client.connections == {f"failed:{world.east.address}": 1}
    assert not client.sockets


def test_a_new_answer_means_a_new_connection_as_soon_as_the_ttl_has_run_out(
    world: World, client: Client
) -> None:
    client.ask()
    world.answer = [world.west.address]
    client.clock.now += 0.5
    assert client.ask() == "us-east-1"
    client.clock.now += 0.5
    assert client.ask() == "us-west-2"
    assert client.sockets == {world.east.address: 1, world.west.address: 1}
    assert client.connections == {"answer_changed": 1}


def test_an_address_that_is_still_in_the_answer_is_kept(world: World, client: Client) -> None:
    client.ask()
    world.answer = [world.west.address, world.east.address]
    client.clock.now += 1
    assert client.ask() == "us-east-1"
    assert not client.connections


def test_a_connection_is_not_used_beyond_its_age(world: World, client: Client) -> None:
    client.ask()
    client.clock.now += 30
    client.ask()
    assert client.sockets == {world.east.address: 2}
    assert client.connections == {"too_old": 1}


def test_an_age_of_zero_means_one_request_per_connection(world: World, make: Make) -> None:
    client = make(limits=Limits(2.0, 2.0, 0.0))
    for _ in range(3):
        client.ask()
    assert client.sockets == {world.east.address: 3}


def test_a_connection_that_the_server_has_closed_is_not_used(world: World, client: Client) -> None:
    client.ask()
    world.hang_up(world.east)
    assert client.ask("POST", body=b"{}") == "us-east-1"
    assert client.connections == {"closed_by_server": 1}


def test_an_idempotent_request_on_a_kept_connection_is_repeated_once(
    world: World, client: Client
) -> None:
    client.ask()
    world.east.mode = "cut"
    with pytest.raises((HTTPConnectionClosed, ConnectionResetError)):
        client.ask()
    # Once on the kept connection, once on a new one, and no more.
    assert world.east.requests["/service1/"] == 3
    assert client.connections["repeated"] == 1


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"{}")])
def test_nothing_is_repeated_on_a_new_connection(
    world: World, client: Client, method: str, body: bytes | None
) -> None:
    world.east.mode = "cut"
    with pytest.raises((HTTPConnectionClosed, ConnectionResetError)):
        client.ask(method, body=body)
    assert world.east.total == 1


def test_a_post_is_never_repeated(world: World, client: Client) -> None:
    client.ask()
    world.east.mode = "cut"
    with pytest.raises((HTTPConnectionClosed, ConnectionResetError)):
        client.ask("POST", body="{}")
    assert world.east.total == 2
    assert "repeated" not in client.connections


def test_when_one_address_refuses_the_next_is_tried(world: World, client: Client) -> None:
    world.close_listener(world.east)
    world.answer = [world.east.address, world.west.address]
    for _ in range(4):
        assert client.ask() == "us-west-2"
        client.pool.close()
    assert client.sockets == {world.west.address: 4}
    world.answer = [world.east.address]
    client.clock.now += 1
    with pytest.raises(ConnectionRefusedError):
        client.ask()
    assert client.connections[f"failed:{world.east.address}"] >= 1


def test_waiting_for_an_answer_is_bounded(world: World, make: Make) -> None:
    client = make(limits=Limits(2.0, 0.1, 30.0))
    world.east.mode = "silent"
    with pytest.raises(TimeoutError) as caught:
        client.ask()
    assert failure_reason(caught.value) == "TimeoutError"
    assert client.connections == {"broken": 1}


def test_a_truncated_answer_is_asked_for_again_over_tcp(world: World, client: Client) -> None:
    world.dns_mode = "truncated"
    assert client.ask() == "us-east-1"
    assert world.questions == {"udp": 1, "tcp": 1}


def test_the_next_name_server_is_asked_when_the_first_is_silent(world: World, make: Make) -> None:
    silent = (world.west.address, world.dns_port)
    client = make(servers=[silent, (world.east.address, world.dns_port)], timeout=0.2)
    assert client.ask() == "us-east-1"


@pytest.mark.parametrize("mode", ["silent", "servfail"])
def test_the_last_answer_is_kept_while_no_name_server_answers(
    world: World, make: Make, mode: str
) -> None:
    client = make(timeout=0.1)
    client.ask()
    world.dns_mode = mode
    client.clock.now += 1
    assert client.ask() == "us-east-1"
    assert client.resolved == {"lookups": 2, "failures": 1, "kept": 1}
    client.clock.now += 31
    with pytest.raises(ResolverUnavailable, match="no name server answered"):
        client.ask()


def test_an_empty_answer_closes_the_door(world: World, client: Client) -> None:
    client.ask()
    world.answer = []
    client.clock.now += 1
    with pytest.raises(NameNotFound):
        client.ask()


def test_the_system_resolver_is_asked_again_after_the_interval() -> None:
    addresses, ttl = system_lookup(5.0)("localhost")
    assert "127.0.0.1" in addresses
    assert ttl == 5.0
    with pytest.raises((NameNotFound, ResolverUnavailable)):
        system_lookup(5.0)("no-such-host.invalid")


def wrapped() -> Exception:
    error = RuntimeError("retries exceeded")
    error.original = TimeoutError("timed out")  # type: ignore[attr-defined]
    return error


def with_status() -> Exception:
    error = RuntimeError("bad status")
    error.code = 502  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("make_error", "reason"),
    [
        (wrapped, "TimeoutError"),
        (with_status, "HTTP 502"),
        (ConnectionRefusedError, "ConnectionRefusedError"),
    ],
)
def test_reasons_are_short_and_alike(make_error: Callable[[], Exception], reason: str) -> None:
    assert failure_reason(make_error()) == reason
