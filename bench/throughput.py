"""Requests a second through the whole lab: both gateways, TLS on both hops, real functions.

    python -m bench.throughput [--seconds 5] [--users 16]

Locust asks service1, service2 and health through the external API of a running lab: once by plain
FastHttpUser, once by this repository's load test, whose users honour DNS, verify TLS and read every
answer. Beside it, by the same plain users:

- an aiohttp server behind the same two hops: what gateways and TLS leave when nothing is done;
- `chalice local` of service1: no gateway, no TLS, no runtime client. Once with a new connection for
  each request. Once with keep-alive, where every answer takes a flat 44 ms: its server writes head
  and body apart, Nagle's algorithm holds the body back until the head is acknowledged, and the
  caller's kernel delays that by 40 ms (a caller that acknowledges at once gets it in 0.1 ms). That
  figure says nothing about the work done.

Downside: Locust needs one of two cores, so this is the rate of a machine that is also its own
caller. `two_hops` has a cheaper caller.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import two_hops
from bench.labs import STATELESS, running_lab, write_topology
from bench.local_servers import chalice_local
from bench.locusts import Load, load_test, plain_users
from bench.table import Result, at_least, report
from lab.settings import HTTPS_PORT

ECHO = "aiohttp echo, two hops"
LOCAL = "chalice local, new connections"
KEPT = "chalice local, keep-alive"


def through_the_lab(scratch: Path, users: int, seconds: float) -> tuple[Load, Load]:
    """By plain users, and by the load test."""
    paths = [f"/{service}/" for service in STATELESS]
    with running_lab(scratch, write_topology(scratch / "three")) as lab:
        address = lab.face["regions"]["us-east-1"]["address"]
        host = f"api.{lab.face['domain']}"
        url = f"https://{address}:{HTTPS_PORT}"
        plain = plain_users(url, host, paths, users=users, seconds=seconds)
        return plain, load_test(lab, scratch, users, seconds)


def echo_behind_two_hops(scratch: Path, users: int, seconds: float) -> Load:
    scratch.mkdir()
    plan = two_hops.prepare(scratch)
    with two_hops.processes(plan):
        url = f"https://{plan.east}:{plan.port}"
        return plain_users(url, two_hops.HOST, ["/echo"], users=users, seconds=seconds)


def local(users: int, seconds: float, keep_alive: bool) -> Load:
    with chalice_local(["service1"]) as servers:
        port = servers.ports["service1"]
        return plain_users(
            f"http://127.0.0.1:{port}",
            f"127.0.0.1:{port}",
            ["/"],
            users=users,
            seconds=seconds,
            keep_alive=keep_alive,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--users", type=int, default=16)
    given = parser.parse_args()
    load = (given.users, given.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        plain, honest = through_the_lab(Path(scratch), *load)
        peers = {
            ECHO: echo_behind_two_hops(Path(scratch) / "echo", *load),
            LOCAL: local(*load, keep_alive=False),
            KEPT: local(*load, keep_alive=True),
        }
    print("p50 / p99 in ms:")
    for name, made in {"the lab": plain, **peers}.items():
        print(f"  {name:32}{made.p50:7.1f} /{made.p99:6.1f}")
    name = "the lab, FastHttpUser"
    goal = at_least(two_hops.GOAL)
    results = [Result("the lab, load test", honest.rate, "/s", ECHO, peers[ECHO].rate, goal)]
    for number, (peer, made) in enumerate(peers.items()):
        target = None if number else goal
        results.append(Result(name, plain.rate, "/s", peer, made.rate, target))
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
