"""Requests a second through both gateways: a function behind them beside a bare aiohttp echo.

    python -m bench.two_hops [--seconds 3] [--connections 16] [--no-locust]

Two gateway processes on two loopback addresses, TLS on both hops, as in the lab: the external API
in us-east-1, the services' own domains in us-west-2. Behind the second: a bare handler run by AWS's
runtime client, or an aiohttp server (plain HTTP, one process). The same load is put on that aiohttp
server directly, with TLS, for what the machine gives without any hop. The load is a small client in
this process; the last row has Locust's FastHttpUser instead, which is what the goal speaks of.

Downside: caller, gateways and functions share the machine's cores, so a figure is that of the whole
chain, and of whatever else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.locusts import plain_users
from bench.table import Result, at_least, report
from lab.apigateway import RegionalGateway
from lab.http1 import ClientConnection
from lab.lambda_runtime import LambdaService
from lab.model import Deployment, Resource
from lab.settings import PROFILES

GOAL = 1500
EAST, WEST = "us-east-1", "us-west-2"
FUNCTION = "bench-us-west-2"
HANDLER = """\
def handler(event, context):
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": '{"service": "bench", "region": "us-west-2"}',
    }
"""
HOST = "api.example.test"


@dataclass(frozen=True)
class Plan:
    """Where everything is; the same in all processes of one run."""

    prefix: str
    port: int
    echo_port: int
    folder: Path

    @property
    def east(self) -> str:
        return f"{self.prefix}.1.10"

    @property
    def west(self) -> str:
        return f"{self.prefix}.2.10"


# --- the processes


def deployment(plan: Plan, region: str) -> Deployment:
    arn = f"arn:aws:lambda:{region}:111122223333:function:{FUNCTION}"
    invocation = f"arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{arn}/invocations"
    apis = {
        "function": {"type": "aws_proxy", "httpMethod": "POST", "uri": invocation},
        "echo": forward(f"http://{plan.west}:{plan.echo_port}/"),
    }
    if region == EAST:
        paths = {f"/{name}": forward(f"https://{name}.example.test/") for name in apis}
        return gateway_deployment(region, {"api": paths})
    function = Resource(
        "bench",
        region,
        "APIHandler",
        "AWS::Serverless::Function",
        FUNCTION,
        {"CodeUri": str(plan.folder / "package"), "Handler": "app.handler", "Tracing": "Active"},
        {"Arn": arn},
    )
    made = gateway_deployment(region, {name: {"/": how} for name, how in apis.items()})
    return Deployment((*made.resources, function), {})


def forward(uri: str) -> dict[str, str]:
    return {"type": "http_proxy", "httpMethod": "ANY", "uri": uri}


def gateway_deployment(region: str, apis: dict[str, dict[str, Any]]) -> Deployment:
    """One API and one custom domain for each of `apis` (name -> path -> integration)."""
    resources = []
    for name, paths in apis.items():
        key = "x-amazon-apigateway-integration"
        document = {
            "paths": {
                path: {"x-amazon-apigateway-any-method": {key: integration}}
                for path, integration in paths.items()
            }
        }
        domain = f"{name}.example.test"
        mapping = {"DomainName": domain, "RestApiId": name, "Stage": "live"}
        for kind, ident, properties in (
            ("Serverless::Api", name, {"DefinitionBody": document, "StageName": "live"}),
            ("ApiGateway::DomainName", domain, {"DomainName": domain}),
            ("ApiGateway::BasePathMapping", domain, mapping),
        ):
            resources.append(
                Resource("bench", region, kind + ident, f"AWS::{kind}", ident, properties, {})
            )
    return Deployment(tuple(resources), {})


class FixedNames:
    """The DNS of this benchmark: every service is in the second region."""

    def __init__(self, address: str) -> None:
        self._addresses = (address,)

    async def resolve(self, name: str) -> tuple[str, ...]:
        del name
        return self._addresses

    def status(self) -> dict[str, Any]:
        return {}


def server_ssl(plan: Plan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plan.folder / "server.pem")
    return context


def client_ssl(plan: Plan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(plan.folder / "ca.pem")
    return context


async def run_gateway(plan: Plan, region: str) -> None:
    address = plan.east if region == EAST else plan.west
    made = deployment(plan, region)
    functions = LambdaService(
        region, made, PROFILES["fast"], work_dir=plan.folder / region, host=address
    )
    gateway = RegionalGateway(
        region,
        made,
        functions,
        FixedNames(plan.west),
        client_ssl=client_ssl(plan),
        port_map={443: plan.port},
    )
    await functions.start()
    await functions.prewarm()
    await gateway.start(address, plan.port, server_ssl(plan))
    await until_told()
    await gateway.close()
    await functions.close()


async def run_echo(plan: Plan) -> None:
    """Both with TLS (for the direct row) and without (behind the gateways)."""
    from aiohttp import web  # here, so that the gateway processes do not carry it

    async def answer(request: web.BaseRequest) -> web.Response:
        del request
        return web.json_response({"service": "bench", "region": WEST})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, plan.west, plan.echo_port).start()
    await web.TCPSite(runner, plan.east, plan.echo_port, ssl_context=server_ssl(plan)).start()
    await until_told()
    await runner.cleanup()


async def until_told() -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print("ready", flush=True)
    await told.wait()


@contextlib.contextmanager
def processes(plan: Plan) -> Iterator[dict[str, float]]:
    """Yields the resident MiB of each process before any load."""
    started: list[subprocess.Popen[str]] = []
    idle = {}
    try:
        for role in (EAST, WEST, "echo"):
            arguments = [plan.prefix, str(plan.port), str(plan.echo_port), str(plan.folder)]
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.two_hops", "--role", role, *arguments],
                stdout=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"{role} did not start")
            idle[role] = resident_mib(process.pid)
        yield idle
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)


def resident_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return float("nan")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


# --- the load


@dataclass(frozen=True)
class Row:
    name: str
    rate: float
    p50: float
    p99: float


async def load(
    name: str, plan: Plan, port: int, path: str, seconds: float, connections: int
) -> Row:
    """`connections` callers, each with one request at a time; latencies in milliseconds."""
    loop = asyncio.get_running_loop()
    context = client_ssl(plan)
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\n\r\n".encode()
    latencies: list[float] = []

    async def call(until: float) -> None:
        _, connection = await loop.create_connection(
            lambda: ClientConnection(plan.east, loop.time()),
            plan.east,
            port,
            ssl=context,
            server_hostname=HOST,
        )
        while (begun := time.perf_counter()) < until:
            response = await connection.send(request)
            if response.status != 200:
                raise SystemExit(f"{name}: status {response.status}: {response.body!r}")
            latencies.append(time.perf_counter() - begun)
        connection.close()

    for duration in (min(1.0, seconds), seconds):  # the first to warm up
        latencies.clear()
        started = time.perf_counter()
        await asyncio.gather(*(call(started + duration) for _ in range(connections)))
    taken = time.perf_counter() - started
    cuts = statistics.quantiles(latencies, n=100)
    return Row(name, len(latencies) / taken, cuts[49] * 1000, cuts[98] * 1000)


def locust_load(name: str, plan: Plan, path: str, seconds: float, users: int) -> Row:
    url = f"https://{plan.east}:{plan.port}"
    made = plain_users(url, HOST, [path], users=users, seconds=seconds)
    return Row(name, made.rate, made.p50, made.p99)


# --- the command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--no-locust", action="store_true")
    parser.add_argument("--role", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, prefix, port, echo_port, folder = options.role
        plan = Plan(prefix, int(port), int(echo_port), Path(folder))
        uvloop.run(run_echo(plan) if role == "echo" else run_gateway(plan, role))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        plan = prepare(Path(folder))
        with processes(plan) as idle:
            rows = measure(plan, options.seconds, options.connections)
            if not options.no_locust:
                name = "function, two hops, Locust"
                rows.append(
                    locust_load(name, plan, "/function", options.seconds, options.connections)
                )
        return conclude(rows, idle[EAST])


def prepare(folder: Path) -> Plan:
    import trustme  # here for the same reason

    authority = trustme.CA()
    certificate = authority.issue_cert("*.example.test")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "package").mkdir()
    (folder / "package" / "app.py").write_text(HANDLER)
    prefix = f"127.{random.randint(100, 250)}"
    address = (f"{prefix}.1.10", 0)
    with socket.create_server(address) as one, socket.create_server(address) as other:
        return Plan(prefix, one.getsockname()[1], other.getsockname()[1], folder)


def measure(plan: Plan, seconds: float, connections: int) -> list[Row]:
    return [
        uvloop.run(load(name, plan, port, path, seconds, connections))
        for name, port, path in (
            ("aiohttp echo, no gateway", plan.echo_port, "/"),
            ("aiohttp echo, two hops", plan.port, "/echo"),
            ("function, two hops", plan.port, "/function"),
        )
    ]


def conclude(rows: list[Row], idle_mib: float) -> int:
    print(f"{'':28}{'p50 ms':>9}{'p99 ms':>9}")
    for row in rows:
        print(f"{row.name:28}{row.p50:9.2f}{row.p99:9.2f}")
    print(f"idle gateway and Lambda process of a region: {idle_mib:.0f} MiB")
    echo = rows[1]
    return report(
        [
            Result(
                row.name,
                row.rate,
                "/s",
                echo.name if row is not echo else "",
                echo.rate,
                at_least(GOAL) if row is rows[-1] else None,
            )
            for row in rows
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
