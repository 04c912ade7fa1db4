"""For the load test's tests: two regions' worth of HTTPS servers and a name server, in one thread.

Real sockets on loopback addresses of a random prefix. What the name server answers and how the
servers behave can be changed while they run; what they saw is counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dnslib
import trustme

HOST = "api.example.test"
REGIONS = ("us-east-1", "us-west-2")


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


class _Http(asyncio.Protocol):
    def __init__(self, region: Region) -> None:
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
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            # Bodies are not read: no test sends one that contains a blank line.
            if b"content-length: 2" in head.lower():
                self._buffer = self._buffer[2:]
            self._answer(head.split(b" ")[1].decode())

    def _answer(self, path: str) -> None:
        region, mode = self._region, self._region.mode
        region.requests[path] += 1
        if mode == "silent":
            return
        if mode == "cut":
            self._transport.abort()
            return
        status = int(mode.split(":")[1]) if mode.startswith("status:") else 200
        service = path.strip("/").split("/")[0]
        body = json.dumps({"service": service, "region": region.name}).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        if mode != "no-region":
            head += f"X-Region: {region.name}\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
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
        prefix = f"127.{random.randrange(100, 250)}.{random.randrange(1, 250)}"
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
                lambda region=region: _Http(region),
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
        self._authority.issue_cert(HOST).configure_cert(context)

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
