"""How many DNS answers a second one core gives, beside dnslib's bare parse and pack.

A pipelined client in a process of its own keeps 32 queries on their way over loopback UDP. Rounds
of 3 and of 100 services alternate, each round under traffic only for a fraction of a second, and
the best round counts, since whatever else the machine does only ever slows a round down.

    python -m bench.nameserver [--seconds 0.4] [--rounds 3]

Downside: the client is Python too; on one core both share it, and the figure is that of the pair.
Answers per second of the server's own CPU time are therefore printed as well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import sys
import time
from typing import Any

import dnslib
import uvloop

from bench.table import Result, at_least, ratio_at_least, report
from lab.model import Deployment, Resource
from lab.route53 import Route53
from lab.settings import PROFILES

REGIONS = ("us-east-1", "us-west-2")
HOST = "127.0.0.1"
WINDOW = 32
GOAL = 10_000
GOAL_SERVICES = 0.8


def resource(kind: str, ident: str, **properties: Any) -> Resource:
    return Resource("bench", REGIONS[0], ident, f"AWS::Route53::{kind}", ident, properties, {})


def deployment(services: int) -> tuple[Deployment, dict[str, tuple[str, str]]]:
    """A failover alias pair with routing-control health checks per service, one weighted name."""
    resources = [resource("HostedZone", "Z1", Name="example.test")]
    targets = {}
    for number in range(1, services + 1):
        for index, region in enumerate(REGIONS):
            check = f"check-{number}-{region}"
            target = f"d-{number:010}.execute-api.{region}.amazonaws.com"
            targets[target] = (f"127.0.{index + 1}.10", region)
            config = {"Type": "RECOVERY_CONTROL", "RoutingControlArn": f"arn:{number}:{region}"}
            alias = {"DNSName": target, "HostedZoneId": "ZAPI", "EvaluateTargetHealth": True}
            resources.append(resource("HealthCheck", check, HealthCheckConfig=config))
            resources.append(
                resource(
                    "RecordSet",
                    f"record-{number}-{region}",
                    HostedZoneId="Z1",
                    Name=f"service{number}.example.test",
                    Type="A",
                    SetIdentifier=region,
                    Failover=("PRIMARY", "SECONDARY")[index],
                    HealthCheckId=check,
                    AliasTarget=alias,
                )
            )
    for index in range(1, 4):
        resources.append(
            resource(
                "RecordSet",
                f"weighted-{index}",
                HostedZoneId="Z1",
                Name="weighted.example.test",
                Type="A",
                TTL="60",
                ResourceRecords=[f"127.0.9.{index}"],
                SetIdentifier=str(index),
                Weight=index,
            )
        )
    return Deployment(tuple(resources), {}), targets


def with_cookie(query: bytes, number: int) -> bytes:
    """The query with an EDNS cookie, as `dig` sends it: no two are alike."""
    option = struct.pack("!HHQ", 10, 8, number)
    return query[:11] + b"\1" + query[12:] + struct.pack("!BHHIH", 0, 41, 1232, 0, 12) + option


def answers_per_second(
    server: tuple[str, int], seconds: float, names: list[str], cookies: bool = False
) -> float:
    """Keeps a window of queries on their way to `server` for so long."""
    queries = [bytes(dnslib.DNSRecord.question(name).pack()) for name in names]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(server)
        sock.settimeout(2)
        for query in queries[:WINDOW]:
            sock.send(query)
        for _ in queries[:WINDOW]:
            sock.recv(512)
        answers, start = 0, time.perf_counter()
        for _ in range(WINDOW):
            sock.send(queries[0])
        while (now := time.perf_counter()) < start + seconds:
            for query in queries:
                reply = sock.recv(512)
                sock.send(with_cookie(query, answers) if cookies else query)
                answers += 1
                assert reply[7] >= 1, "an answer without a record"
    return answers / (now - start)


async def serve_round(services: int, seconds: float, *asked: str) -> tuple[float, float]:
    """Answers per second, and per second of this process's CPU time."""
    zone, targets = deployment(services)
    route53 = Route53(zone, PROFILES["fast"], targets, rng=random.Random(1))
    await route53.start(HOST, 0)
    try:
        before, cpu = route53.status()["answers_given"], time.process_time()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bench.nameserver"),
            *("--client", str(route53.address[1])),
            *("--seconds", str(seconds), *asked),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(child.communicate(), seconds + 20)
        if child.returncode:
            raise SystemExit("the client has failed")
        cpu = time.process_time() - cpu
        return float(output), (route53.status()["answers_given"] - before) / cpu
    finally:
        await route53.close()


def bare_dnslib(seconds: float) -> float:
    """Parse one query and pack one answer, over and over, without a socket."""
    packet = bytes(dnslib.DNSRecord.question("service1.example.test").pack())
    rounds, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        reply = dnslib.DNSRecord.parse(packet).reply()
        reply.add_answer(dnslib.RR("service1.example.test", rdata=dnslib.A(HOST), ttl=60))
        reply.pack()
        rounds += 1
    return rounds / (now - start)


async def measure(seconds: float, rounds: int) -> int:
    best: dict[str, tuple[float, float]] = {}
    names = [f"service{number}.example.test" for number in range(1, 101)]
    plan: dict[str, tuple[int, list[str]]] = {
        "3 services": (3, names[:3]),
        "100 services": (100, names),
        "weighted name": (3, ["weighted.example.test"]),
        "100, no query repeated": (100, ["--cookies", *names]),
    }
    bare = 0.0
    for _ in range(rounds):
        bare = max(bare, bare_dnslib(seconds / 2))
        for name, (services, asked) in plan.items():
            result = await serve_round(services, seconds, *asked)
            best[name] = max(best.get(name, (0.0, 0.0)), result)
    few, many = best["3 services"][0], best["100 services"][0]
    peer = "bare dnslib, parse and pack"
    return report(
        [
            *(
                Result(f"answers, {name}", rate, "/s", peer, bare, at_least(GOAL))
                for name, (rate, _) in best.items()
            ),
            *(
                Result(f"the same by CPU time, {name}", per_cpu, "/s", peer, bare)
                for name, (_, per_cpu) in best.items()
            ),
            Result("100 services", many, "/s", "3 services", few, ratio_at_least(GOAL_SERVICES)),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="length of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--cookies", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client is not None:
        server = (HOST, options.client)
        print(answers_per_second(server, options.seconds, options.names, options.cookies))
        return 0
    return uvloop.run(measure(options.seconds, options.rounds))


if __name__ == "__main__":
    raise SystemExit(main())
