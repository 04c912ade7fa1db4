"""A recovery cluster to talk to: the lab's stand-in, or a real one on AWS.

With AWS_VERIFIED_RECOVERY_FILE set to a `recovery.json`, the tests of test_arc_boto3.py run against
the real cluster named in it and move the switches of its first service (or of
AWS_VERIFIED_SERVICE), which moves that service's traffic; the switches are put back afterwards.
boto3 finds the credentials in its usual places.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import uvloop
from botocore.config import Config
from loopback_networks import free_network

from lab.arc import ArcCluster
from lab.model import Deployment, Resource
from lab.settings import Network, Profile

Result = TypeVar("Result")
ROOT = "arn:aws:route53-recovery-control::111122223333:"
PANEL = ROOT + "controlpanel/" + "0f" * 16
SPARE_PANEL = ROOT + "controlpanel/" + "5e" * 16
PRIMARY, SECONDARY, GATE, TARGET = (f"{PANEL}/routingcontrol/{c * 16}" for c in "abcd")
SPARES = tuple(f"{SPARE_PANEL}/routingcontrol/{n:016x}" for n in range(11))
AT_LEAST_ONE, AT_MOST_ONE, LOCK, SLOW = (f"{PANEL}/safetyrule/{n:016x}" for n in range(1, 5))
PROFILE = Profile("test", 1, 5.0, 0.02, 0.05, 300, 0.0, 0.0)
SESSION = boto3.Session()


def _resource(kind: str, physical_id: str, **properties: Any) -> Resource:
    logical_id = kind + physical_id.rsplit("/", 1)[-1]
    kind = "AWS::Route53RecoveryControl::" + kind
    return Resource("routing", "us-west-2", logical_id, kind, physical_id, properties, {})


def _rule(arn: str, name: str, kind: str, threshold: int, inverted: bool, **body: Any) -> Resource:
    shape = "GatingRule" if "GatingControls" in body else "AssertionRule"
    return _resource(
        "SafetyRule",
        arn,
        Name=name,
        ControlPanelArn=PANEL,
        RuleConfig={"Type": kind, "Threshold": threshold, "Inverted": inverted},
        **{shape: {"WaitPeriodMs": 0, **body}},
    )


def deployment() -> Deployment:
    """service1 with the two standard rules, a gate with one target, and eleven spare switches."""
    both = {"AssertedControls": [PRIMARY, SECONDARY]}
    names = ("service1-us-east-1", "service1-us-west-2", "gate", "target")
    return Deployment(
        (
            _resource("Cluster", ROOT + "cluster/8d47920e-d789-437d", Name="shop"),
            _resource("ControlPanel", PANEL, Name="service1"),
            _resource("ControlPanel", SPARE_PANEL, Name="spare"),
            *(
                _resource("RoutingControl", arn, Name=name, ControlPanelArn=PANEL)
                for arn, name in zip((PRIMARY, SECONDARY, GATE, TARGET), names, strict=True)
            ),
            *(
                _resource("RoutingControl", arn, Name=f"spare-{n}", ControlPanelArn=SPARE_PANEL)
                for n, arn in enumerate(SPARES)
            ),
            _rule(AT_LEAST_ONE, "service1-at-least-one", "ATLEAST", 1, False, **both),
            _rule(AT_MOST_ONE, "service1-at-most-one", "ATLEAST", 2, True, **both),
            _rule(
                LOCK, "lock", "OR", 0, False,
                GatingControls=[GATE], TargetControls=[TARGET], WaitPeriodMs=5000,
            ),
        ),
        {},
    )  # fmt: skip


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class StandIn:
    """One `ArcCluster` on an event loop of its own in a thread, on free ports of a free prefix."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = Clock()
        self.events: list[dict[str, Any]] = []
        self.changes: list[tuple[str, bool]] = []
        self.network = Network(free_network())
        self._file = folder / "arc.json"
        self._options = options
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.cluster = self._make()
        self._run(self.cluster.start(self.network, 0))

    def _make(self) -> ArcCluster:
        cluster = ArcCluster(
            deployment(), PROFILE, self._file, self.clock, on_event=self.events.append,
            **self._options,
        )  # fmt: skip
        cluster.on_change(lambda arn, is_on: self.changes.append((arn, is_on)))
        return cluster

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a plain function on the cluster's loop, as the lab's control socket does."""

        async def work() -> Result:
            return function(*args)

        return self._run(work())

    def fault(self, region: str, mode: str) -> None:
        self.call(self.cluster.set_endpoint_fault, region, mode)

    def restart(self) -> None:
        """A new process would find no more than the state file."""
        self._run(self.cluster.close())
        self.cluster = self._make()
        self._run(self.cluster.start(self.network, 0))

    def close(self) -> None:
        self._run(self.cluster.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class Target:
    """A cluster, one service's switches, and how to wait for it."""

    endpoints: list[dict[str, str]]
    panel: str
    primary: str
    secondary: str
    rules: Mapping[str, str]
    """What the rule asks for -> its ARN: "at-least-one", "at-most-one"."""
    wait: Callable[[float], None]
    """Let so many seconds pass."""
    pause: float
    """Seconds to wait before a write, because of the write quota and of wait periods."""
    credentials: Mapping[str, str]
    _clients: dict[tuple[str, str, float], Any] = field(default_factory=dict)

    def client(self, index: int = 0, url: str | None = None, patience: float = 5) -> Any:
        """A boto3 client of one endpoint, as an operator would make it: one attempt."""
        endpoint = self.endpoints[index]
        key = (endpoint["region"], url or endpoint["url"], patience)
        if key not in self._clients:
            self._clients[key] = SESSION.client(
                "route53-recovery-cluster",
                region_name=endpoint["region"],
                endpoint_url=url or endpoint["url"],
                config=Config(
                    retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=patience
                ),
                **self.credentials,
            )
        return self._clients[key]

    def read(self, arn: str, index: int = 0) -> str:
        answer = self.client(index).get_routing_control_state(RoutingControlArn=arn)
        return str(answer["RoutingControlState"])

    def write(
        self, states: Mapping[str, str], index: int = 0, overrides: tuple[str, ...] = ()
    ) -> Any:
        """One transaction, after the pause."""
        self.wait(self.pause)
        return self.client(index).update_routing_control_states(
            UpdateRoutingControlStateEntries=[
                {"RoutingControlArn": arn, "RoutingControlState": state}
                for arn, state in states.items()
            ],
            SafetyRulesToOverride=list(overrides),
        )

    def states(self, index: int = 0) -> tuple[str, str]:
        """Of the primary and of the secondary."""
        return self.read(self.primary, index), self.read(self.secondary, index)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def stand_in_target(stand_in: StandIn) -> Target:
    """The stand-in's service1, with the primary On, as a deployment leaves it."""
    stand_in.call(stand_in.cluster.set_states, {PRIMARY: True})
    return Target(
        stand_in.cluster.endpoints(),
        PANEL,
        PRIMARY,
        SECONDARY,
        {"at-least-one": AT_LEAST_ONE, "at-most-one": AT_MOST_ONE},
        stand_in.clock.wait,
        1.0,
        {"aws_access_key_id": "lab", "aws_secret_access_key": "lab"},
    )


def real_target(recovery_file: Path) -> Target:
    """A service of a real cluster, as its recovery file tells."""
    document = json.loads(recovery_file.read_text())
    name = os.environ.get("AWS_VERIFIED_SERVICE") or next(iter(document["services"]))
    service = document["services"][name]
    primary, secondary = (service["routing_controls"][r] for r in document["regions"][:2])
    rules = {
        kind: arn
        for kind in ("at-least-one", "at-most-one")
        for rule, arn in service["safety_rules"].items()
        if rule == f"{name}-{kind}"
    }
    return Target(
        document["cluster_endpoints"], service["control_panel"], primary, secondary, rules,
        time.sleep, 6.0, {},
    )  # fmt: skip
