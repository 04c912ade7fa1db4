"""An ARC cluster, a DNS and a probe in memory, behind the tool's own protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from failover import cli, recovery
from failover.commands import World
from failover.errors import SafetyRuleRefusal
from failover.events import Events
from failover.ports import Answer, EndpointFailed
from failover.recovery import Endpoint, Recovery

EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
ARC_REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")
ADDRESSES = {EAST: "192.0.2.1", WEST: "192.0.2.2"}
PANEL = "arn:aws:route53-recovery-control::111122223333:controlpanel"


def control(service: str, region: str, kind: str = "") -> str:
    return f"{PANEL}/{service}/routingcontrol/{kind}{region}"


def rule(service: str, name: str) -> str:
    return f"{PANEL}/{service}/safetyrule/{service}{name}"


def service_entry(name: str) -> dict[str, Any]:
    return {
        "host": f"{name}.example.test",
        "control_panel": f"{PANEL}/{name}",
        "routing_controls": {r: control(name, r) for r in REGIONS},
        "safety_rules": {f"{name}-{n}": rule(name, n) for n in ("at-least-one", "at-most-one")},
        "pinned": {r: f"https://{name}.{r}.example.test:8443" for r in REGIONS},
    }


def database_entry(name: str) -> dict[str, Any]:
    return {
        "global_cluster": f"{name}-global",
        "clusters": {r: f"arn:aws:rds:{r}:111122223333:cluster:{name}" for r in REGIONS},
        "proxies": {r: f"{name}-proxy" for r in REGIONS},
        "routing_controls": {r: control(name, r, "db-") for r in REGIONS},
    }


def document(*services: str, databases: tuple[str, ...] = ()) -> dict[str, Any]:
    entries = {name: service_entry(name) for name in services or ("service1", "service2", "api")}
    for name in databases:
        entries[name] = {**service_entry(name), "database": database_entry(name)}
    return {
        "version": 1,
        "domain": "example.test",
        "regions": list(REGIONS),
        "cluster_endpoints": [
            {"region": r, "url": f"https://{r}.cluster.invalid/v1"} for r in ARC_REGIONS
        ],
        "services": entries,
    }


def make_recovery(*services: str, databases: tuple[str, ...] = ()) -> Recovery:
    return recovery.parse(document(*services, databases=databases), Path("recovery.json"))


@dataclass
class FakeArc:
    """One state behind all endpoints. `faults`: endpoint region → what it raises."""

    states: dict[str, bool]
    faults: dict[str, Callable[[str], Exception | None]] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)
    """Services whose wait period refuses every change."""
    updates: list[tuple[str, dict[str, bool]]] = field(default_factory=list)
    stale: dict[str, dict[str, bool]] = field(default_factory=dict)
    """endpoint region → states that only it sees."""

    def list_states(self, endpoint: Endpoint) -> dict[str, bool]:
        self._fail(endpoint, "list")
        return {**self.states, **self.stale.get(endpoint.region, {})}

    def update_states(self, endpoint: Endpoint, entries: Mapping[str, bool]) -> None:
        self.updates.append((endpoint.region, dict(entries)))
        self._fail(endpoint, "update")
        for name in self.refusing:
            if any(f"/{name}/" in arn for arn in entries):
                raise SafetyRuleRefusal("waiting", f"{name}-at-most-one", rule(name, "at-most-one"))
        self.states.update(entries)
        self._fail(endpoint, "updated")

    def _fail(self, endpoint: Endpoint, moment: str) -> None:
        fault = self.faults.get(endpoint.region, lambda _: None)(moment)
        if fault is not None:
            raise fault

    def down(self, *regions: str) -> None:
        for region in regions or ARC_REGIONS:
            self.faults[region] = lambda _: EndpointFailed("connection refused")

    def active(self, service: str) -> list[str]:
        return [r for r in REGIONS if self.states.get(control(service, r))]


@dataclass
class FakeWorld:
    """DNS and HTTP that follow the routing controls of `arc`, as Route 53 would: none On means
    the primary, both On too."""

    arc: FakeArc
    dead: set[str] = field(default_factory=set)
    """Regions that refuse connections."""
    frozen: dict[str, str] = field(default_factory=dict)
    """service → region to which its DNS name is stuck."""
    silent: set[str] = field(default_factory=set)
    """Services whose answers do not name the region."""
    routeless: set[str] = field(default_factory=set)
    """Services whose gateway knows no route at the probe's path."""
    answers: list[str] = field(default_factory=list)
    """What the operator types."""

    events: Callable[[], Events] = Events

    def addresses(self, host: str) -> tuple[str, ...]:
        service, second, *_ = host.split(".")
        if second in REGIONS:
            return (ADDRESSES[second],)
        active = self.arc.active(service)
        return (ADDRESSES[self.frozen.get(service, active[0] if active else EAST)],)

    def get(self, url: str, address: str) -> Answer:
        region = next(r for r, a in ADDRESSES.items() if a == address)
        if region in self.dead:
            return Answer(url, address, 1, error="connection refused")
        if any(f"/{name}." in url for name in self.routeless):
            said = "MissingAuthenticationTokenException"
            return Answer(url, address, 1, 403, gateway_error=said)
        named = None if any(f"/{name}." in url for name in self.silent) else region
        return Answer(url, address, 1, 200, named)

    def world(self, *, interactive: bool = False) -> World:
        return World(self.arc, self, self, interactive, lambda _: self.answers.pop(0), self.events)


def fake_world(known: Recovery, active: str = EAST) -> FakeWorld:
    states = {}
    for service in known.services.values():
        controls = [service.routing_controls]
        if service.database:
            controls.append(service.database.routing_controls)
        for by_region in controls:
            states.update({arn: region == active for region, arn in by_region.items()})
    return FakeWorld(FakeArc(states))


def options(*words: str) -> Any:
    return cli.build_parser().parse_args(words)
