"""How soon after a switch a caller sees the new region, beside the DNS answer's own change.

    python -m bench.move [--round-trips 8]

In a running lab service1 is moved there and back again by one call of UpdateRoutingControlStates,
at one of the five endpoints in turn. Time begins when the endpoint's answer to that call has come.
Three callers ask without a pause but 5 ms, all through real sockets:

- a client of https://service1.<domain> that uses a DNS answer for its TTL, and keeps its
  connection only as long as the answer holds the connection's address;
- the same client on https://api.<domain>/service1/, where the gateway's own resolver decides;
- the peer: one that asks DNS alone, and keeps nothing.

Moves begin at random moments, so a kept answer may be anything between fresh and just running out.
The target binds the slowest move, because the bound is one that must hold: propagation, plus the
TTL for which an answer may be kept, plus 0.25 s for everything that this lab adds.

Downside: one event loop has all three callers, so each figure may be some milliseconds too high.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import boto3
import uvloop

from bench.labs import RunningLab, running_lab, write_topology
from bench.table import Result, Target, at_most, report
from lab.certs import client_context
from lab.dns_client import Resolver
from lab.http1 import ClientConnection
from lab.settings import HTTPS_PORT, PROFILES

SERVICE = "service1"
PROFILE = PROFILES["fast"]
ADDED = 0.25
LIMIT = PROFILE.propagation + PROFILE.alias_ttl + ADDED
STEP = 0.005
"""Seconds between two questions of a caller."""
GIVE_UP = 10.0

DIRECT = f"{SERVICE}.<domain>, by a client that honours the TTL"
THROUGH_API = f"api.<domain>/{SERVICE}/, through the external API"
DNS = "the DNS answer itself"


class TtlClient:
    """Asks one URL; returns the region that answers."""

    def __init__(
        self, name_server: tuple[str, int], context: ssl.SSLContext, host: str, path: str
    ) -> None:
        self._resolver = Resolver(name_server)
        self._context = context
        self._host = host
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._connection: ClientConnection | None = None

    async def ask(self) -> str:
        address = (await self._resolver.resolve(self._host))[0]
        kept = self._connection
        if kept is None or not kept.is_open or kept.address != address:
            if kept is not None:
                kept.close()
            kept = self._connection = await self._connect(address)
        response = await kept.send(self._request)
        if response.status != 200:
            raise SystemExit(f"{self._host}: status {response.status}: {response.body!r}")
        return str(json.loads(response.body)["region"])

    async def _connect(self, address: str) -> ClientConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: ClientConnection(address, loop.time()),
            address,
            HTTPS_PORT,
            ssl=self._context,
            server_hostname=self._host,
        )
        return connection

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        await self._resolver.close()


class Watch:
    """One caller; `seen` is the region of its last answer, `since` when that region came first."""

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self.seen = ""
        self.since = 0.0

    async def run(self) -> None:
        while True:
            region = await self._ask()
            if region != self.seen:
                self.seen, self.since = region, time.perf_counter()
            await asyncio.sleep(STEP)


class Switch:
    """The routing controls of the service, through the five endpoints in turn."""

    def __init__(self, lab: RunningLab) -> None:
        self._controls: dict[str, str] = lab.recovery["services"][SERVICE]["routing_controls"]
        self._clients: list[Any] = [
            boto3.client(
                "route53-recovery-cluster",
                region_name=endpoint["region"],
                endpoint_url=endpoint["url"],
                aws_access_key_id="lab",
                aws_secret_access_key="lab",
            )
            for endpoint in lab.face["arc_endpoints"]
        ]

    def to(self, region: str) -> float:
        """Switches; returns the moment at which the endpoint had said yes."""
        client = self._clients.pop(0)
        self._clients.append(client)
        entries = [
            {"RoutingControlArn": arn, "RoutingControlState": "On" if name == region else "Off"}
            for name, arn in self._controls.items()
        ]
        client.update_routing_control_states(UpdateRoutingControlStateEntries=entries)
        return time.perf_counter()


async def measure(lab: RunningLab, round_trips: int) -> dict[str, list[float]]:
    """Seconds until each caller saw the new region, for every move."""
    context = client_context(lab.ca_file)
    domain = lab.face["domain"]
    server = lab.name_server
    regions: dict[str, str] = {r["address"]: name for name, r in lab.face["regions"].items()}
    direct = TtlClient(server, context, f"{SERVICE}.{domain}", "/")
    through_api = TtlClient(server, context, f"api.{domain}", f"/{SERVICE}/")
    dns = Resolver(server, cache_cap=0)

    async def dns_answer() -> str:
        return regions[(await dns.resolve(f"{SERVICE}.{domain}"))[0]]

    watches = {
        DIRECT: Watch(direct.ask),
        THROUGH_API: Watch(through_api.ask),
        DNS: Watch(dns_answer),
    }
    switch = Switch(lab)
    taken: dict[str, list[float]] = {name: [] for name in watches}
    primary, secondary = lab.face["regions"]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(w.run()) for w in watches.values()]
        await until_seen(watches, primary)
        for region in (secondary, primary) * round_trips:
            await asyncio.sleep(random.random() * PROFILE.alias_ttl)
            accepted = await asyncio.to_thread(switch.to, region)
            await until_seen(watches, region)
            for name, watch in watches.items():
                taken[name].append(watch.since - accepted)
        for task in tasks:
            task.cancel()
    for closable in (direct, through_api, dns):
        await closable.close()
    return taken


async def until_seen(watches: dict[str, Watch], region: str) -> None:
    deadline = time.perf_counter() + GIVE_UP
    while not all(w.seen == region for w in watches.values()):
        if time.perf_counter() > deadline:
            blind = [name for name, w in watches.items() if w.seen != region]
            raise SystemExit(f"after {GIVE_UP:.0f} s not yet {region}: {', '.join(blind)}")
        await asyncio.sleep(STEP)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--round-trips", type=int, default=8)
    round_trips = parser.parse_args().round_trips
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        with running_lab(scratch, write_topology(scratch / "three")) as lab:
            taken = uvloop.run(measure(lab, round_trips))
    timing = f"propagation {PROFILE.propagation} s, TTL {PROFILE.alias_ttl} s"
    print(f"{2 * round_trips} moves; {timing}")
    results = []
    for name in (DIRECT, THROUGH_API):
        for what, pick, target in (
            ("median", statistics.median, None),
            ("slowest", max, at_most(LIMIT)),
        ):
            results.append(row(f"{what}, {name}", pick(taken[name]), pick(taken[DNS]), target))
    return report(results)


def row(name: str, seconds: float, dns_seconds: float, target: Target | None) -> Result:
    return Result(name, seconds, "s", DNS, dns_seconds, target)


if __name__ == "__main__":
    sys.exit(main())
