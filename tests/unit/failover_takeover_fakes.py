"""Two regions' CloudWatch and a Route 53 that follows their alarms, in memory.

An alarm compares the maximum of the newest period that has data, and keeps its state without any:
a 0 right after a 1 does not count before the next period. `now` is its clock, moved by `sleep`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from failover_fakes import (
    ADDRESSES,
    EAST,
    REGIONS,
    WEST,
    FakeArc,
    FakeWorld,
    control,
    database_entry,
    document,
    service_entry,
)
from failover_fakes import options as parse

from failover import commands, recovery
from failover.commands import World
from failover.ports import EndpointFailed
from failover.recovery import Recovery, TakeOver

PERIOD = 60.0


def other(region: str) -> str:
    return WEST if region == EAST else EAST


def alarm_name(service: str, out: str) -> str:
    return f"example-test-{service}-from-{out}"


def alarm_entry(name: str, switch: str = "alarm") -> dict[str, Any]:
    entry = service_entry(name)
    checked = {"checked": {"path": "/deep", "records": "weighted"}} if switch == "health" else {}
    return {
        "host": entry["host"],
        "pinned": entry["pinned"],
        "switch": switch,
        "takeover": {
            out: {
                "region": other(out),
                "alarm": alarm_name(name, out),
                "namespace": "TwoRegionApi",
                "metric": "TakeOver",
                "dimensions": {"Domain": "example.test", "Service": name, "Region": out},
            }
            for out in REGIONS
        },
        **checked,
    }


def mixed_document(
    arc: Iterable[str] = (),
    alarm: Iterable[str] = (),
    health: Iterable[str] = (),
    databases: Iterable[str] = (),
) -> dict[str, Any]:
    """Services by switch; `databases`: alarm services that have one."""
    given = document("any")
    given["services"] = {name: service_entry(name) for name in arc}
    given["services"].update({name: alarm_entry(name) for name in alarm})
    given["services"].update({name: alarm_entry(name, "health") for name in health})
    for name in databases:
        data = {k: v for k, v in database_entry(name).items() if k != "routing_controls"}
        given["services"][name] = {**alarm_entry(name), "database": data}
    if not arc:
        given["cluster_endpoints"] = []
    return given


def mixed(**services: Iterable[str]) -> Recovery:
    return recovery.parse(mixed_document(**services), Path("recovery.json"))


@dataclass
class FakeCloudWatch:
    """`ports.CloudWatch`."""

    points: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    """alarm → its metric's data points."""
    published: list[tuple[str, str, bool]] = field(default_factory=list)
    """(region, alarm, taken), in order."""
    read: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    """Regions whose CloudWatch refuses connections."""
    faults: dict[str, Callable[[str], Exception | None]] = field(default_factory=dict)
    """region → what it raises at "publish", "published" and "alarms"."""
    missing: set[str] = field(default_factory=set)
    """Alarms that there are not."""
    stuck: set[str] = field(default_factory=set)
    """Alarms that never change."""
    now: float = 1000.0

    def publish(self, takeover: TakeOver, taken: bool) -> None:
        self._reach(takeover.region, "publish")
        self.published.append((takeover.region, takeover.alarm, taken))
        assert takeover.dimensions["Region"] == other(takeover.region)
        if takeover.alarm not in self.stuck:
            self.points.setdefault(takeover.alarm, []).append((self.now, taken))
        self._reach(takeover.region, "published")

    def alarms(self, region: str, names: Sequence[str]) -> dict[str, str]:
        self.read.append(region)
        self._reach(region, "alarms")
        return {name: self.state(name) for name in names if name not in self.missing}

    def _reach(self, region: str, moment: str) -> None:
        if region in self.dead:
            raise EndpointFailed("connection refused or unreachable")
        fault = self.faults.get(region, lambda _: None)(moment)
        if fault is not None:
            raise fault

    def state(self, name: str) -> str:
        points = self.points.get(name, [])
        if not points:
            return "INSUFFICIENT_DATA"
        newest = max(at // PERIOD for at, _ in points)
        return "ALARM" if any(v for at, v in points if at // PERIOD == newest) else "OK"

    def taken(self, service: str, region: str) -> bool:
        return self.state(alarm_name(service, region)) == "ALARM"

    def put(self, service: str, east: bool = False, west: bool = False) -> None:
        """Positions as of long ago."""
        for region, value in ((EAST, east), (WEST, west)):
            self.points[alarm_name(service, region)] = [(0.0, value)]

    def positions(self, service: str) -> tuple[bool, bool]:
        """(is the primary taken over, is the standby)."""
        return self.taken(service, EAST), self.taken(service, WEST)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class AlarmWorld(FakeWorld):
    """DNS that follows routing controls, alarms, or alarms and health, whichever a service has."""

    cloudwatch: FakeCloudWatch = field(default_factory=FakeCloudWatch)
    switches: dict[str, str] = field(default_factory=dict)
    """service → switch."""
    ill: set[tuple[str, str]] = field(default_factory=set)
    """(service, region) that Route 53's own checks do not find healthy."""

    def addresses(self, host: str) -> tuple[str, ...]:
        service, second, *_ = host.split(".")
        if second in REGIONS or self.switches[service] == "arc" or service in self.frozen:
            return super().addresses(host)
        return (ADDRESSES[self.answering(service)],)

    def answering(self, service: str) -> str:
        """The region whose record Route 53 answers with: the first healthy one, else the first."""
        healthy = [r for r in REGIONS if not self.cloudwatch.taken(service, r)]
        if self.switches[service] == "health":
            healthy = [r for r in healthy if (service, r) not in self.ill and r not in self.dead]
        return healthy[0] if healthy else EAST

    def kill(self, region: str) -> None:
        """Nothing of it answers any more."""
        self.dead.add(region)
        self.cloudwatch.dead.add(region)

    def revive(self, region: str) -> None:
        self.dead.discard(region)
        self.cloudwatch.dead.discard(region)

    def world(self, *, interactive: bool = False, **more: Any) -> World:
        return World(
            self.arc,
            self,
            self,
            interactive,
            lambda _: self.answers.pop(0),
            self.events,
            cloudwatch=self.cloudwatch,
            sleep=self.cloudwatch.sleep,
            clock=lambda: self.cloudwatch.now,
            **more,
        )


def alarm_world(known: Recovery) -> AlarmWorld:
    """Everything in the primary."""
    states = {
        control(name, region): region == EAST
        for name, service in known.services.items()
        for region in service.routing_controls
    }
    switches = {name: service.switch for name, service in known.services.items()}
    return AlarmWorld(FakeArc(states), switches=switches)


WAIT = ("--wait", "0.3", "--deadline", "0.5")


def run(world: AlarmWorld, *words: str, known: Recovery) -> int:
    """One command; short waits."""
    command = commands.status if words[0] == "status" else commands.change
    extra = () if words[0] == "status" else ("--yes", *WAIT)
    return command(known, parse(words[0], *extra, *words[1:]), words, world.world())


def journal() -> dict[str, Any]:
    """The newest."""
    file = max(Path("journal").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def told(world: AlarmWorld) -> list[tuple[str, str, bool]]:
    """(where, which region, taken over?), in order, each once."""
    return list(
        dict.fromkeys(
            (region, alarm.partition("-from-")[2], taken)
            for region, alarm, taken in world.cloudwatch.published
        )
    )
