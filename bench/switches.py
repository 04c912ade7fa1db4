"""How soon an alarm, and a lost region, change the DNS answer, beside a routing control.

    python -m bench.switches [--round-trips 6] [--losses 3]

In one lab service1 has routing controls, service2 alarms, and Route 53 itself moves health. DNS is
asked every 5 ms, without a cache. Time begins

- for the routing control when a cluster endpoint's answer has come,
- for the alarm when the answer to the first PutMetricData has come. A position that its alarm does
  not show is published again, as an operator does; back takes longer than there, since within a
  period the greatest value counts;
- for the lost region when `lab fault region us-east-1 kill` begins.

The fast profile makes a period of an alarm 0.3 s instead of a minute, and the checkers ask every
0.5 s instead of 10. The ratios are the lab's and say nothing of AWS, whose periods are whole.

Downside: the command that kills the region is a process of its own, whose start is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import boto3
import uvloop

from bench.labs import ROOT, RunningLab, clean_environment, running_lab
from bench.move import Switch
from bench.table import Result, ratio_at_most, report
from lab.dns_client import Resolver

ARC = "service1, by its routing controls"
THERE, BACK = "service2, taken over by an alarm", "service2, given back by an alarm"
LOST = "health, moved by its checks when the region is killed"
LIMITS = {THERE: 4, BACK: 5, LOST: 15}
"""Times the routing control's median, for the slowest: nobody at a demonstration has to ask."""
GIVE_UP = 15.0
STEP = 0.005
AGAIN = 0.1
"""Seconds until a position is published again."""

TOPOLOGY = """\
domain = "example.test"
regions = ["us-east-1", "us-west-2"]
[services.service1]
[services.service2]
switch = "alarm"
[services.health]
switch = "health"
health_path = "/"
failback = "automatic"
"""


class Alarm:
    """The alarm with which the secondary takes service2 over."""

    def __init__(self, lab: RunningLab) -> None:
        recovery = lab.recovery
        primary = recovery["regions"][0]
        self._takeover: dict[str, Any] = recovery["services"]["service2"]["takeover"][primary]
        region = self._takeover["region"]
        self._client = boto3.client(
            "cloudwatch",
            region_name=region,
            endpoint_url=recovery["endpoints"][region]["cloudwatch"],
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
        )

    def publish(self, value: float) -> float:
        """One data point; returns the moment at which it was taken."""
        dimensions = [{"Name": k, "Value": v} for k, v in self._takeover["dimensions"].items()]
        datum = {
            "MetricName": self._takeover["metric"], "Dimensions": dimensions, "Value": value,
        }  # fmt: skip
        self._client.put_metric_data(Namespace=self._takeover["namespace"], MetricData=[datum])
        return time.perf_counter()


class Names:
    """What DNS answers now."""

    def __init__(self, lab: RunningLab) -> None:
        self._resolver = Resolver(lab.name_server, cache_cap=0)
        self._domain = lab.face["domain"]
        self._regions = {r["address"]: name for name, r in lab.face["regions"].items()}

    async def leads(
        self, service: str, region: str, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> float:
        """Waits until the name leads to the region; returns the moment."""
        deadline = time.perf_counter() + GIVE_UP
        again = time.perf_counter() + AGAIN
        while True:
            (address,) = await self._resolver.resolve(f"{service}.{self._domain}")
            now = time.perf_counter()
            if self._regions[address] == region:
                return now
            if now > deadline:
                raise SystemExit(f"after {GIVE_UP:.0f} s {service} is not in {region}")
            if meanwhile is not None and now > again:
                await meanwhile()
                again = now + AGAIN
            await asyncio.sleep(STEP)

    async def close(self) -> None:
        await self._resolver.close()


async def measure(lab: RunningLab, round_trips: int, losses: int) -> dict[str, list[float]]:
    """Seconds until DNS had changed, for every move."""
    taken: dict[str, list[float]] = {name: [] for name in (ARC, THERE, BACK, LOST)}
    names, switch, alarm = Names(lab), Switch(lab), Alarm(lab)
    primary, secondary = lab.face["regions"]
    for _ in range(round_trips):
        for region in (secondary, primary):
            accepted = await asyncio.to_thread(switch.to, region)
            taken[ARC].append(await names.leads("service1", region) - accepted)
        for value, region, what in ((1.0, secondary, THERE), (0.0, primary, BACK)):
            await asyncio.sleep(random.random())  # begins anywhere within a period

            async def publish(value: float = value) -> float:
                return await asyncio.to_thread(alarm.publish, value)

            accepted = await publish()
            taken[what].append(await names.leads("service2", region, publish) - accepted)
    for _ in range(losses):
        begun = time.perf_counter()
        await fault(lab, primary, "kill")
        taken[LOST].append(await names.leads("health", secondary) - begun)
        await fault(lab, primary, "restore")
        await names.leads("health", primary)
    await names.close()
    return taken


async def fault(lab: RunningLab, region: str, mode: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lab.cli", "fault", "region", region, mode,
        "--lab-dir", str(lab.directory),
        cwd=ROOT, env=clean_environment(), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await process.wait():
        raise SystemExit(f"lab fault region {region} {mode} failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--round-trips", type=int, default=6)
    parser.add_argument("--losses", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "switches"
        folder.mkdir()
        (folder / "services").symlink_to(ROOT / "services")
        topology = folder / "topology.toml"
        topology.write_text(TOPOLOGY)
        with running_lab(Path(name), topology) as lab:
            taken = uvloop.run(measure(lab, options.round_trips, options.losses))
    peer = statistics.median(taken[ARC])
    print(f"a routing control: median {peer:.3f} s, slowest {max(taken[ARC]):.3f} s")
    results = []
    for what, limit in LIMITS.items():
        median, slowest = statistics.median(taken[what]), max(taken[what])
        results += [
            Result(f"median, {what}", median, "s", ARC, peer),
            Result(f"slowest, {what}", slowest, "s", ARC, peer, ratio_at_most(limit)),
        ]
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
