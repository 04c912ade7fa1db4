"""A DNS cache for one process that does what DNS says: an answer is used for its TTL, not longer.

Python's getaddrinfo hides the TTL, and connection pools ask only when they open a connection. So
this module asks a name server itself (UDP, TCP when the answer is truncated) and keeps the answer
exactly as long as it may. When it has run out, the next request waits for a new one; all other
requests of that moment wait for the same look-up (single flight).

Without a name server it asks the system resolver every `interval` seconds, because no TTL is known.

Downsides: requests at the moment of expiry are one DNS round trip slower. The TTL is counted from
the moment the question was sent, so an answer is given up a round trip early rather than late.
Only IPv4 addresses are asked for.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import dnslib
from gevent import lock, socket

from loadtest.errors import NameNotFound, ResolveError, ResolverUnavailable

DNS_PORT = 53
QUERY_TIMEOUT = 1.0
"""Seconds to wait for one name server, per attempt."""
ATTEMPTS = 2
"""Rounds over all name servers."""
STALE_LIMIT = 30.0
"""Seconds beyond its TTL for which the last answer is kept while no name server answers."""
RETRY_INTERVAL = 1.0
"""Seconds between look-ups of a name while no name server answers."""
CNAME_LIMIT = 8
"""Questions asked at most to follow a chain of CNAME records."""

Lookup = Callable[[str], tuple[tuple[str, ...], float]]
"""host name → (addresses, seconds for which they may be used). Raises `ResolveError`."""


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[str, ...]
    use_until: float
    """On the monotonic clock."""
    keep_until: float
    """Until then the addresses may stand in for an answer that nobody gives."""
    error: ResolveError | None = None


class Resolver:
    """The cache. `addresses` costs a dictionary look-up while the answer is fresh.

    `counters` counts `lookups`, `failures` (look-ups without an answer), `kept` (times that an
    answer was used beyond its TTL because of a failure) and `changes` (answers that differ from
    the one before).
    """

    def __init__(
        self,
        lookup: Lookup,
        counters: Counter[str],
        clock: Callable[[], float] = time.monotonic,
        stale_limit: float = STALE_LIMIT,
    ) -> None:
        self._lookup = lookup
        self._counters = counters
        self._clock = clock
        self._stale_limit = stale_limit
        self._answers: dict[str, _Answer] = {}
        self._locks: dict[str, lock.BoundedSemaphore] = {}

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of `host` now, never empty. Raises `ResolveError`."""
        answer = self._answers.get(host)
        if answer is None or self._clock() >= answer.use_until:
            answer = self._refresh(host, answer)
        if answer.error is not None:
            # A new one each time: an exception that is raised again grows its traceback.
            raise type(answer.error)(*answer.error.args)
        return answer.addresses

    def _refresh(self, host: str, seen: _Answer | None) -> _Answer:
        single_flight = self._locks.setdefault(host, lock.BoundedSemaphore())
        with single_flight:
            answer = self._answers.get(host)
            if answer is None or answer is seen:
                answer = self._answers[host] = self._ask(host, answer)
            return answer

    def _ask(self, host: str, last: _Answer | None) -> _Answer:
        asked_at = self._clock()
        self._counters["lookups"] += 1
        try:
            addresses, ttl = self._lookup(host)
        except ResolverUnavailable as error:
            self._counters["failures"] += 1
            return self._without_answer(error, last)
        except NameNotFound as error:
            self._counters["failures"] += 1
            retry_at = self._clock() + RETRY_INTERVAL
            return _Answer((), retry_at, retry_at, error)
        if last is not None and set(last.addresses) != set(addresses):
            self._counters["changes"] += 1
        until = asked_at + ttl
        return _Answer(addresses, until, until + self._stale_limit)

    def _without_answer(self, error: ResolveError, last: _Answer | None) -> _Answer:
        now = self._clock()
        if last is not None and last.addresses and now < last.keep_until:
            self._counters["kept"] += 1
            return replace(last, use_until=now + RETRY_INTERVAL)
        return _Answer((), now + RETRY_INTERVAL, now, error)


def literal_or(lookup: Lookup) -> Lookup:
    """Wraps a look-up so that an IP address in place of a name is its own answer, for ever."""

    def wrapped(host: str) -> tuple[tuple[str, ...], float]:
        try:
            return (str(ipaddress.ip_address(host)),), float("inf")
        except ValueError:
            return lookup(host)

    return wrapped


def system_lookup(interval: float) -> Lookup:
    """Asks the system resolver; an answer is used for `interval` seconds."""

    def lookup(host: str) -> tuple[tuple[str, ...], float]:
        try:
            found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
                raise NameNotFound(f"{host}: {error.strerror}") from error
            raise ResolverUnavailable(f"{host}: {error.strerror}") from error
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found)), interval

    return lookup


def name_server_lookup(
    servers: Sequence[tuple[str, int]], timeout: float = QUERY_TIMEOUT
) -> Lookup:
    """Asks name servers, given as (host, port), in their order until one answers."""

    def lookup(host: str) -> tuple[tuple[str, ...], float]:
        reasons = []
        for server in [*servers] * ATTEMPTS:
            try:
                return _resolve(server, host, timeout)
            except (ResolverUnavailable, OSError) as error:
                if isinstance(error, NameNotFound):
                    raise
                reasons.append(f"{server[0]}:{server[1]}: {error or type(error).__name__}")
        raise ResolverUnavailable(f"{host}: no name server answered ({'; '.join(reasons)})")

    return lookup


def parse_name_servers(text: str) -> tuple[tuple[str, int], ...]:
    """`host[:port][,host[:port]…]` → ((host, port), …). Raises ValueError."""
    servers = []
    for part in text.split(","):
        host, _, port = part.strip().partition(":")
        if not host:
            raise ValueError(f"{text!r}: a name server without a host")
        servers.append((host, int(port) if port else DNS_PORT))
    return tuple(servers)


def _resolve(server: tuple[str, int], host: str, timeout: float) -> tuple[tuple[str, ...], float]:
    """Follows CNAME records; the smallest TTL of the chain counts."""
    name, ttl = host, float("inf")
    for _ in range(CNAME_LIMIT):
        addresses, alias, link_ttl = read_answer(_query(server, name, timeout), name)
        ttl = min(ttl, link_ttl)
        if addresses:
            return addresses, ttl
        name = alias
    raise ResolverUnavailable(f"{host}: more than {CNAME_LIMIT} CNAME records in a row")


def read_answer(answer: dnslib.DNSRecord, host: str) -> tuple[tuple[str, ...], str, float]:
    """From one DNS answer to `host`: its addresses, or the name to ask for next; and the TTL.

    Raises `NameNotFound` or `ResolverUnavailable` when there is neither.
    """
    code = answer.header.rcode
    if code not in (dnslib.RCODE.NOERROR, dnslib.RCODE.NXDOMAIN):
        raise ResolverUnavailable(f"{host}: {dnslib.RCODE.get(code)}")
    name, ttl = host.lower().rstrip("."), float("inf")
    for _ in range(CNAME_LIMIT):
        records = [r for r in answer.rr if str(r.rname).lower().rstrip(".") == name]
        addresses = tuple(str(r.rdata) for r in records if r.rtype == dnslib.QTYPE.A)
        if addresses:
            return addresses, "", min(ttl, *(r.ttl for r in records if r.rtype == dnslib.QTYPE.A))
        aliases = [r for r in records if r.rtype == dnslib.QTYPE.CNAME]
        if not aliases:
            break
        name, ttl = str(aliases[0].rdata).lower().rstrip("."), min(ttl, aliases[0].ttl)
    if code == dnslib.RCODE.NOERROR and name != host.lower().rstrip("."):
        return (), name, ttl
    raise NameNotFound(f"{host}: {dnslib.RCODE.get(code)}, no IPv4 address")


def _query(server: tuple[str, int], name: str, timeout: float) -> dnslib.DNSRecord:
    question = dnslib.DNSRecord.question(name, "A")
    question.header.id = secrets.randbelow(1 << 16)
    packet = question.pack()
    answer = _over_udp(server, packet, question, timeout)
    return _over_tcp(server, packet, question, timeout) if answer.header.tc else answer


def _over_udp(
    server: tuple[str, int], packet: bytes, question: dnslib.DNSRecord, timeout: float
) -> dnslib.DNSRecord:
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(server)
        sock.send(packet)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ResolverUnavailable("no answer in time")
            sock.settimeout(left)
            answer = _parse(sock.recv(65535))
            # A late answer to an earlier question may still come in: wait for ours.
            if _answers(answer, question):
                return answer


def _over_tcp(
    server: tuple[str, int], packet: bytes, question: dnslib.DNSRecord, timeout: float
) -> dnslib.DNSRecord:
    with socket.create_connection(server, timeout) as sock:
        sock.sendall(len(packet).to_bytes(2, "big") + packet)
        answer = _parse(_exactly(sock, int.from_bytes(_exactly(sock, 2), "big")))
    if not _answers(answer, question):
        raise ResolverUnavailable("an answer to another question")
    return answer


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        block = sock.recv(size - len(data))
        if not block:
            raise ResolverUnavailable("connection closed within an answer")
        data += block
    return data


def _parse(data: bytes) -> dnslib.DNSRecord:
    try:
        return dnslib.DNSRecord.parse(data)
    except dnslib.DNSError as error:
        raise ResolverUnavailable(f"not a DNS answer: {error}") from error


def _answers(answer: dnslib.DNSRecord, question: dnslib.DNSRecord) -> bool:
    return (
        answer.header.qr == 1
        and answer.header.id == question.header.id
        and [q.qname for q in answer.questions] == [q.qname for q in question.questions]
    )
