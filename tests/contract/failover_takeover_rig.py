"""The rig with services that have alarms instead of routing controls: two regions' CloudWatch,
scripted, over real sockets on loopback, and a name server that follows them.

botocore speaks JSON with CloudWatch. Time is shortened: an alarm shows a data point `delay` seconds
after it came.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from failover_database_rig import Listener, reply
from failover_rig import DOMAIN, EAST, REGIONS, WEST, Rig

ALARM, HEALTH = "service2", "service3"


def other(region: str) -> str:
    return WEST if region == EAST else EAST


def alarm_name(service: str, out: str) -> str:
    return f"example-test-{service}-from-{out}"


@dataclass
class Metrics:
    """What CloudWatch of both regions knows, and what it was asked."""

    taken: dict[tuple[str, str], list[tuple[float, bool]]] = field(default_factory=dict)
    """(service, the region that is taken out) → when it was told so, and whether."""
    calls: list[tuple[str, str, dict[str, Any], str]] = field(default_factory=list)
    """(region, operation, parameters, authorization)."""
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    """"region operation" → HTTP status and error code."""
    hanging: set[str] = field(default_factory=set)
    """"region operation" that never answers."""
    login_page: bool = False
    """Everything is answered by a proxy that wants somebody to log in."""
    delay: float = 0.2
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def is_taken(self, service: str, out: str) -> bool:
        with self.lock:
            points = self.taken.get((service, out), [])
        seen = [value for at, value in points if at + self.delay <= time.monotonic()]
        return bool(seen) and seen[-1]

    def told(self, operation: str = "PutMetricData") -> list[str]:
        """The regions that were asked for it, in order."""
        return [region for region, called, _, _ in self.calls if called == operation]


class CloudWatchRegion:
    """CloudWatch's API of one region."""

    def __init__(self, name: str, address: str, metrics: Metrics) -> None:
        self.name, self.metrics = name, metrics
        self.listener = Listener(address, 0, self.answer)
        self.url = f"http://{address}:{self.listener.port}"

    def close(self) -> None:
        self.listener.close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        content = request.rfile.read(int(request.headers["Content-Length"]))
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        given = json.loads(content)
        metrics, key = self.metrics, f"{self.name} {operation}"
        metrics.calls.append(
            (self.name, operation, given, request.headers.get("Authorization", ""))
        )
        if key in metrics.hanging:
            metrics.released.wait(30)
            return
        if metrics.login_page:
            reply(request, 200, b"<html>", "text/html")
            return
        status, document = 200, {}
        if key in metrics.errors:
            status, code = metrics.errors[key]
            document = {"__type": code, "message": "as scripted"}
        elif operation == "PutMetricData":
            self.put(given)
        else:
            document = {"MetricAlarms": [self.describe(name) for name in given["AlarmNames"]]}
        reply(request, status, json.dumps(document).encode(), "application/x-amz-json-1.0")

    def put(self, given: dict[str, Any]) -> None:
        assert given["Namespace"] == "TwoRegionApi"
        for datum in given["MetricData"]:
            named = {d["Name"]: d["Value"] for d in datum["Dimensions"]}
            assert (datum["MetricName"], named["Domain"]) == ("TakeOver", DOMAIN)
            assert named["Region"] != self.name, "it is told in the region that takes over"
            point = (time.monotonic(), datum["Value"] >= 1)
            with self.metrics.lock:
                self.metrics.taken.setdefault((named["Service"], named["Region"]), []).append(point)

    def describe(self, name: str) -> dict[str, Any]:
        service, _, out = name.removeprefix("example-test-").partition("-from-")
        known = (service, out) in self.metrics.taken
        state = "ALARM" if self.metrics.is_taken(service, out) else "OK"
        return {
            "AlarmName": name,
            "StateValue": state if known else "INSUFFICIENT_DATA",
            "StateReason": "as scripted",
        }


class TakeOverRig(Rig):
    """`service1` has routing controls, `service2` an alarm, `service3` moves by itself."""

    def __init__(self, folder: Path, *, arc: bool = True) -> None:
        names = ("service1", ALARM, HEALTH) if arc else (ALARM, HEALTH)
        super().__init__(folder, names)
        self.metrics = Metrics()
        self.cloudwatch = {
            name: CloudWatchRegion(name, region.address, self.metrics)
            for name, region in self.regions.items()
        }
        by_controls = self.dns.active
        self.dns.active = lambda cluster, service: (  # type: ignore[method-assign]
            by_controls(cluster, service) if service == "service1" else self.answering(service)
        )
        document = json.loads(self.recovery_file.read_text())
        for name, switch in ((ALARM, "alarm"), (HEALTH, "health")):
            document["services"][name] = self.entry(document["services"][name], name, switch)
        if not arc:
            document["cluster_endpoints"] = []
        document["endpoints"] = {r: {"cloudwatch": c.url} for r, c in self.cloudwatch.items()}
        self.recovery_file.write_text(json.dumps(document))

    def entry(self, given: dict[str, Any], name: str, switch: str) -> dict[str, Any]:
        checked = {"path": "/deep", "records": "failover"}
        return {
            **{key: given[key] for key in ("host", "pinned")},
            "switch": switch,
            "takeover": {
                out: {
                    "region": other(out),
                    "alarm": alarm_name(name, out),
                    "namespace": "TwoRegionApi",
                    "metric": "TakeOver",
                    "dimensions": {"Domain": DOMAIN, "Service": name, "Region": out},
                }
                for out in REGIONS
            },
            **({"checked": checked} if switch == "health" else {}),
        }

    def answering(self, service: str) -> str:
        """As Route 53 would: the first that is healthy, else the first."""
        healthy = [r for r in REGIONS if not self.metrics.is_taken(service, r)]
        if service == HEALTH:
            healthy = [r for r in healthy if self.regions[r].up]
        return healthy[0] if healthy else EAST

    def kill(self, region: str) -> None:
        self.regions[region].close()
        self.cloudwatch[region].close()

    def __exit__(self, *exc: object) -> None:
        self.metrics.released.set()
        for part in self.cloudwatch.values():
            part.close()
        super().__exit__(*exc)
