"""For the load test's tests: two regions' worth of HTTPS servers and a name server, in one thread.

Real sockets on loopback addresses of a random prefix. What the name server answers and how the
servers behave can be changed while they run; what they saw is counted.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dnslib
import trustme
from loopback_networks import free_network

HOST = "api.example.test"
REGIONS = ("us-east-1", "us-west-2")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def with_own_port(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """For several processes a port of their own: Locust's usual one is taken by a run beside it."""
    if "--processes" not in arguments:
        return arguments
    port = str(free_port())
    return (*arguments, "--master-port", port, "--master-bind-port", port)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


@dataclass
class Region:
    """One HTTPS server. `mode`: ok, status:<code>, no-region, close, silent, cut."""

    name: str
    address: str
    mode: str = "ok"
    requests: Counter[str] = field(default_factory=Counter)
    """Requests by path."""
    connections: int = 0
    server_names: set[str | None] = field(default_factory=set)
    transports: set[asyncio.Transport] = field(default_factory=set)

    @property
    def total(self) -> int:
        return sum(self.requests.values())


@dataclass(frozen=True)
class Request:
    """As a server got it; `headers` by name in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Reply = tuple[int, Mapping[str, str], bytes]
"""(status, headers, body)"""


class _Http(asyncio.Protocol):
    def __init__(self, world: World, region: Region) -> None:
        self._world = world
        self._region = region
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._region.connections += 1
        self._region.transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._region.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, rest = self._buffer.split(b"\r\n\r\n", 1)
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            size = int(headers.get("content-length", 0))
            if len(rest) < size:
                return
            self._buffer = rest[size:]
            method, path, _ = first.split(" ")
            self._answer(Request(method, path, headers, rest[:size]))

    def _answer(self, request: Request) -> None:
        region, mode = self._region, self._region.mode
        region.requests[request.path] += 1
        if mode == "silent":
            return
        if mode == "cut":
            self._transport.abort()
            return
        reply = self._world.respond(region, request)
        if reply is None:
            self._transport.abort()
            return
        status, headers, body = reply
        head = f"HTTP/1.1 {status} X\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if status != 204:
            head += f"Content-Length: {len(body)}\r\n"
        self._transport.write(f"{head}\r\n".encode() + body)
        if mode == "close":
            self._transport.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, world: World) -> None:
        self._world = world

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        answer = self._world.dns_answer(data, over="udp")
        if answer is not None:
            self._transport.sendto(answer, address)


class World:
    """`with World(folder) as world:` starts it; nothing is left after the block."""

    def __init__(self, folder: Path) -> None:
        prefix = f"{free_network()}.7"
        self.folder = folder
        self.regions = {
            name: Region(name, f"{prefix}.{number + 1}") for number, name in enumerate(REGIONS)
        }
        self.east, self.west = self.regions.values()
        self.answer = [self.east.address]
        """What the name server says now; empty: no address."""
        self.ttl = 1
        self.dns_mode = "ok"
        """ok, truncated (UDP answers send the client to TCP), servfail, silent."""
        self.questions: Counter[str] = Counter()
        """Questions answered, by `udp` and `tcp`."""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loadtest-world")
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(folder / "ca.pem"))

    def __enter__(self) -> World:
        self._thread.start()
        assert self._ready.wait(10)
        recovery = {
            "version": 1,
            "regions": list(REGIONS),
            "services": {
                "service1": {"host": "service1.example.test"},
                "service2": {"host": "service2.example.test"},
                "todo": {"host": "todo.example.test", "database": {}},
                "api": {"host": HOST},
            },
        }
        self.recovery_file.write_text(json.dumps(recovery))
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def recovery_file(self) -> Path:
        return self.folder / "recovery.json"

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def nameserver(self) -> str:
        return f"{self.east.address}:{self.dns_port}"

    def call(self, function: Callable[[], object]) -> None:
        """Runs `function` in the servers' thread and waits for it."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(10)

    def hang_up(self, region: Region) -> None:
        """Closes all connections of that region, as a server that tidies up does."""
        self.call(lambda: [transport.close() for transport in list(region.transports)])

    def close_listener(self, region: Region) -> None:
        """From now on connections to that region are refused; open ones are cut."""
        self.call(self._servers[region.name].close)
        self.call(lambda: [transport.abort() for transport in list(region.transports)])

    def respond(self, region: Region, request: Request) -> Reply | None:
        """What that region answers; None: the connection is cut."""
        status = int(region.mode.split(":")[1]) if region.mode.startswith("status:") else 200
        service = request.path.strip("/").split("/")[0]
        headers = {"Content-Type": "application/json"}
        if region.mode != "no-region":
            headers["X-Region"] = region.name
        return status, headers, json.dumps({"service": service, "region": region.name}).encode()

    def dns_answer(self, data: bytes, over: str) -> bytes | None:
        if self.dns_mode == "silent":
            return None
        question = dnslib.DNSRecord.parse(data)
        reply = question.reply()
        self.questions[over] += 1
        if self.dns_mode == "servfail":
            reply.header.rcode = dnslib.RCODE.SERVFAIL
        elif self.dns_mode == "truncated" and over == "udp":
            reply.header.tc = 1
        else:
            for address in self.answer:
                reply.add_answer(dnslib.RR(question.q.qname, ttl=self.ttl, rdata=dnslib.A(address)))
        return bytes(reply.pack())

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._servers: dict[str, asyncio.Server] = {}
        self.port = 0
        for region in self.regions.values():
            server = await self._loop.create_server(
                lambda region=region: _Http(self, region),
                region.address,
                self.port,
                ssl=self._tls(region),
            )
            self._servers[region.name] = server
            self.port = server.sockets[0].getsockname()[1]
        udp, _ = await self._loop.create_datagram_endpoint(
            lambda: _Udp(self), local_addr=(self.east.address, 0)
        )
        self.dns_port = udp.get_extra_info("sockname")[1]
        tcp = await asyncio.start_server(self._tcp, self.east.address, self.dns_port)
        self._ready.set()
        await self._stop.wait()
        udp.close()
        for server in (tcp, *self._servers.values()):
            server.close()
        for region in self.regions.values():
            for transport in list(region.transports):
                transport.abort()
        # One more turn of the loop lets the transports finish closing.
        await asyncio.sleep(0)

    def _tls(self, region: Region) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(HOST, region.address).configure_cert(context)

        def remember(_: object, name: str | None, __: object) -> None:
            region.server_names.add(name)

        context.sni_callback = remember
        return context

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = self.dns_answer(await reader.readexactly(size), over="tcp")
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()
