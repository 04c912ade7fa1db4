"""`infra verify REGION`: does everything answer in this region, as somebody outside sees it?

Every service is asked at its pinned name, `<service>.<region>.<domain>`: status 200, `X-Region` of
this region, a certificate that holds for the name, within a bound. The external API is asked at its
pinned name too, in two ways: at a path that it does not have, where this region's gateway must say
so itself, and at each service's route. A route leads to the service's failover name, which may well
be answered by the other region; so any region of the topology is right there, and a service whose
failover name does not exist yet (its records come last) is left out. What `health` says of its
dependencies at `/deep` is shown and not required.

`--idle` asks something else: whether users are served from elsewhere, by the failover names. It is
what a release asks before it changes the standby region. Who does not answer at all is no fault.

Nothing of AWS is called and no credentials are needed: DNS and HTTPS, as any client. All answers
are judged by the pure function `faults`, all reasons come at once.

Downside: it says that a region answers now, from here, not that it can take the load or write. And
a route that leads to another region which is down is a fault of the region that was asked, as its
clients would see it. The bound is for each step of a question (connecting, TLS, each read), and
again for the whole afterwards, so a server that drips can hold it up for longer. The external API
does not say in which region it is, so `--idle` cannot see that users come in by this one.

Sources: API Gateway Developer Guide, "Gateway response types" (403 MISSING_AUTHENTICATION_TOKEN for
a path that is not there), "Custom domain names" (403 Forbidden for a name without a mapping).
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from infra.topology import API, DEEP_PATH, Topology

SERVICE, GATEWAY, ROUTE, DEEP, USERS = "service", "gateway", "route", "deep", "users"
WORKERS = 16
BODY_LIMIT = 64 * 1024
AGAIN_AFTER = 2.0
"""Seconds between two rounds of `--wait`."""
NO_SUCH_PATH = "MissingAuthenticationTokenException"
"""`x-amzn-errortype` of a gateway that has no such path."""
UNKNOWN_PATH = "/"
"""The external API has routes for services only."""


class NoSuchName(OSError):
    """DNS knows no address of the name."""


@dataclass(frozen=True, slots=True)
class Question:
    """One GET."""

    kind: str
    service: str
    host: str
    path: str
    allowed: tuple[str, ...] = ()
    """Values of X-Region that are right; empty if none is expected."""
    behind: str = ""
    """The failover name to which a route leads."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    status: int = 0
    region: str = ""
    """X-Region."""
    milliseconds: int = 0
    error: str = ""
    """Why there is no answer."""
    gateway_error: str = ""
    """`x-amzn-errortype`."""
    detail: str = ""
    skipped: str = ""
    """Why it was not asked."""


@dataclass(frozen=True, slots=True)
class Row:
    question: Question
    answer: Answer
    faults: tuple[str, ...]


def questions(topology: Topology, region: str) -> tuple[Question, ...]:
    """What is asked in `region`."""
    asked = []
    for service in topology.services.values():
        host = topology.pinned_host(service.name, region)
        asked.append(Question(SERVICE, service.name, host, "/", (region,)))
        if service.folder == "health":
            asked.append(Question(DEEP, service.name, host, DEEP_PATH, (region,)))
    api = topology.pinned_host(API, region)
    asked.append(Question(GATEWAY, API, api, UNKNOWN_PATH))
    asked += [
        Question(ROUTE, name, api, f"/{name}/", topology.regions, topology.host(name))
        for name in topology.services
    ]
    return tuple(asked)


def idle_questions(topology: Topology, region: str) -> tuple[Question, ...]:
    """Which region serves the users of each service; any but `region` is right."""
    others = tuple(each for each in topology.regions if each != region)
    hosts = {name: topology.host(name) for name in topology.services}
    return tuple(Question(USERS, name, host, "/", others, host) for name, host in hosts.items())


def faults(question: Question, answer: Answer, seconds: float) -> tuple[str, ...]:
    """What is wrong with the answer. `seconds`: how long it may take."""
    if answer.skipped or question.kind == DEEP:
        return ()
    if question.kind == USERS:
        elsewhere = not answer.region or answer.region in question.allowed
        return () if elsewhere else (f"users are served from {answer.region}",)
    if answer.error:
        return (answer.error,)
    found = list(_wrong(question, answer))
    if answer.milliseconds > seconds * 1000:
        found.append(f"{answer.milliseconds} ms, more than {seconds:g} s")
    return tuple(found)


def _wrong(question: Question, answer: Answer) -> Iterator[str]:
    said = f" ({answer.gateway_error})" if answer.gateway_error else ""
    if question.kind == GATEWAY:
        if answer.status != 403 or answer.gateway_error != NO_SUCH_PATH:
            yield (
                f"status {answer.status}{said}; the external API would say 403 ({NO_SUCH_PATH}) "
                "of a path that it does not have"
            )
        return
    if answer.status != 200:
        yield f"status {answer.status} instead of 200{said}"
    elif not answer.region:
        yield "no X-Region"
    if answer.region and answer.region not in question.allowed:
        yield f"answered by {answer.region} instead of {' or '.join(question.allowed)}"


# ---- names


class Names(Protocol):
    """Where a name leads."""

    def addresses(self, host: str) -> tuple[str, ...]:
        """At least one address. Raises NoSuchName, or another OSError if nobody can tell."""


class SystemNames:
    """The operating system's resolver, with its caches and time-outs."""

    def addresses(self, host: str) -> tuple[str, ...]:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
                raise NoSuchName(f"DNS has no address of {host}") from None
            raise OSError(f"DNS does not answer for {host}: {error.strerror}") from None
        return tuple(dict.fromkeys(str(item[4][0]) for item in found))


@dataclass(frozen=True, slots=True)
class NameServer:
    """One name server, asked for A records; a CNAME counts if the addresses come with it."""

    host: str
    port: int
    timeout: float = 2.0

    def addresses(self, host: str) -> tuple[str, ...]:
        from dnslib import QTYPE, DNSError, DNSRecord

        where = f"{self.host}:{self.port}"
        try:
            question = DNSRecord.question(host, "A")
            record = DNSRecord.parse(question.send(self.host, self.port, timeout=self.timeout))
        except (OSError, DNSError) as error:
            raise OSError(f"{where} does not tell the address of {host}: {cause(error)}") from None
        found = tuple(str(each.rdata) for each in record.rr if each.rtype == QTYPE.A)
        if not found and record.header.rcode not in (0, 3):
            raise OSError(f"{where} answers rcode {record.header.rcode} for {host}")
        if not found:
            raise NoSuchName(f"DNS has no address of {host}")
        return found


# ---- asking


@dataclass(slots=True)
class Client:
    """Asks questions; a new connection for each."""

    names: Names
    port: int = 443
    timeout: float = 10.0
    ca_file: Path | None = None
    clock: Callable[[], float] = time.monotonic
    _trust: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self._trust = ssl.create_default_context(cafile=self.ca_file)

    def ask(self, question: Question) -> Answer:
        """Never raises for what a network can do."""
        if question.behind:
            try:
                self.names.addresses(question.behind)
            except NoSuchName:
                return Answer(skipped=f"{question.behind} does not exist yet")
            except OSError as error:
                return Answer(error=cause(error))
        began = self.clock()
        try:
            answer = self._exchange(question)
        except (OSError, http.client.HTTPException) as error:
            return Answer(error=cause(error), milliseconds=self._since(began))
        return answer(self._since(began))

    def _since(self, began: float) -> int:
        return round((self.clock() - began) * 1000)

    def _exchange(self, question: Question) -> Callable[[int], Answer]:
        raw = self._connect(self.names.addresses(question.host))
        connection = http.client.HTTPConnection(question.host, self.port, timeout=self.timeout)
        try:
            connection.sock = self._trust.wrap_socket(raw, server_hostname=question.host)
            port = "" if self.port == 443 else f":{self.port}"
            headers = {"Host": f"{question.host}{port}", "User-Agent": "infra-verify"}
            connection.request("GET", question.path, headers={**headers, "Connection": "close"})
            response = connection.getresponse()
            body = response.read(BODY_LIMIT)
            detail = said(response.status, body) if question.kind == DEEP else ""
            error = (response.headers.get("x-amzn-errortype") or "").partition(":")[0]
            region = response.headers.get("X-Region") or ""
            return lambda took: Answer(
                response.status, region, took, gateway_error=error, detail=detail
            )
        finally:
            raw.close()
            connection.close()

    def _connect(self, addresses: Sequence[str]) -> socket.socket:
        """The first address that takes a connection, as clients do."""
        for address in addresses[:-1]:
            try:
                return socket.create_connection((address, self.port), self.timeout)
            except OSError:
                continue
        return socket.create_connection((addresses[-1], self.port), self.timeout)


def cause(error: Exception) -> str:
    """A few words for what went wrong."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def said(status: int, body: bytes) -> str:
    """What `/deep` says, in a line."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return f"status {status}"
    return f"status {status}: {document.get('detail') or document.get('status') or 'no detail'}"


# ---- the whole


class Asks(Protocol):
    """Who asks (`Client`)."""

    def ask(self, question: Question) -> Answer: ...


def look(client: Asks, asked: Iterable[Question], seconds: float) -> list[Row]:
    """All questions at the same time."""
    listed = list(asked)
    with ThreadPoolExecutor(WORKERS) as pool:
        return [
            Row(question, answer, faults(question, answer, seconds))
            for question, answer in zip(listed, pool.map(client.ask, listed), strict=True)
        ]


def watch(
    client: Asks,
    asked: Sequence[Question],
    seconds: float,
    wait: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Row]:
    """`look`, and again at what was wrong until nothing is or `wait` seconds are over."""
    end = clock() + wait
    rows = {row.question: row for row in look(client, asked, seconds)}
    while any(row.faults for row in rows.values()) and clock() < end:
        sleep(min(AGAIN_AFTER, max(end - clock(), 0.0)))
        again = [question for question, row in rows.items() if row.faults]
        rows |= {row.question: row for row in look(client, again, seconds)}
    return list(rows.values())


def table(region: str, rows: Sequence[Row]) -> str:
    """For a person; every reason below the rows."""
    cells = [("ASKED", "STATUS", "ANSWERED BY", "MS", ""), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    text = [
        "  ".join(map(str.ljust, line, (*widths, 0))).rstrip() for line in cells
    ]
    reasons = list(_reasons(rows))
    judged = sum(1 for row in rows if not row.answer.skipped and row.question.kind != DEEP)
    if reasons:
        text += ["", f"{region} is not as it should be:", *(f"  - {each}" for each in reasons)]
    else:
        text += ["", f"{region}: all {judged} answer as they should"]
    return "\n".join(text)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    question, answer = row.question, row.answer
    note = "; ".join(row.faults) or answer.detail or answer.skipped
    if question.kind in (DEEP, USERS) and answer.error:
        note = answer.error
    return (
        f"{question.host}{question.path}",
        str(answer.status or "-"),
        answer.region or "-",
        "-" if answer.skipped else str(answer.milliseconds),
        note,
    )


def _reasons(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield from (f"{row.question.host}{row.question.path}: {fault}" for fault in row.faults)


def as_json(region: str, rows: Sequence[Row]) -> str:
    document = {"region": region, "ok": ok(rows), "asked": [_plain(row) for row in rows]}
    return json.dumps(document, indent=2)


def _plain(row: Row) -> dict[str, Any]:
    question, answer = row.question, row.answer
    return {
        "kind": question.kind,
        "service": question.service,
        "url": f"https://{question.host}{question.path}",
        "required": question.kind != DEEP,
        "status": answer.status,
        "region": answer.region,
        "milliseconds": answer.milliseconds,
        "detail": answer.detail or answer.skipped or answer.error,
        "skipped": bool(answer.skipped),
        "faults": list(row.faults),
    }


def ok(rows: Iterable[Row]) -> bool:
    return not any(row.faults for row in rows)


def verify(options: argparse.Namespace, topology: Topology) -> int:
    """`infra verify`; 0 if all is well, 1 with every reason."""
    names: Names = SystemNames()
    if options.name_server:
        names = NameServer(*options.name_server)
    try:
        client = Client(names, options.port, options.timeout, options.ca_file)
    except OSError as error:
        sys.stderr.write(f"--ca-file {options.ca_file}: {cause(error)}\n")
        return 2
    asked = (idle_questions if options.idle else questions)(topology, options.region)
    rows = watch(client, asked, options.timeout, options.wait)
    show = as_json if options.json else table
    sys.stdout.write(show(options.region, rows) + "\n")
    return 0 if ok(rows) else 1


# ---- the command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("region", metavar="REGION", help="one of the topology's")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.add_argument(
        "--idle", action="store_true",
        help="ask instead whether all users are served from another region",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS",
        help="for an answer (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS",
        help="ask again what was wrong, for so long (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--name-server", type=_address, metavar="HOST:PORT",
        help="ask this one for addresses instead of the system's resolver",
    )  # fmt: skip
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="trust this authority instead of the system's"
    )
    parser.add_argument(
        "--port", type=int, default=443, metavar="N", help="of the services (default: 443)"
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("give seconds, up to 3600")
    return value


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)
