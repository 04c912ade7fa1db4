"""Entry point of the lab's processes: `python -m lab.serve LAB_DIR global|REGION`.

`global` is what belongs to no region: the ARC cluster with its five endpoints (if any entry is
switched by it), and Route 53. A region's process holds its API Gateway and Lambda; functions are
its children and die with it. Each process builds its parts from `deployment.json`; regions learn of
routing only by asking DNS, and Route 53 of a region's metrics by asking the region.

Downside: ARC and Route 53 share one process, so the lab cannot lose one without the other.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvloop

from lab import control
from lab.arc import ArcCluster, has_cluster
from lab.dispatch import EventLog, dispatch
from lab.errors import PreconditionError
from lab.model import Deployment
from lab.paths import LabPaths
from lab.route53 import Route53
from lab.settings import DNS_PORT, HTTPS_PORT, Settings


class Part(Protocol):
    """A process's contents: started, asked, closed."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def handle(self, command: str, arguments: dict[str, Any]) -> Any: ...


class GlobalPart:
    """ARC and Route 53."""

    def __init__(self, paths: LabPaths, settings: Settings, deployment: Deployment) -> None:
        self._paths = paths
        self._settings = settings
        events = EventLog(paths.root / "events.jsonl", "global")
        paths.state.mkdir(parents=True, exist_ok=True)
        self._dns = Route53(
            deployment,
            settings.profile,
            alias_targets(deployment, settings),
            on_event=events,
            port_map={443: HTTPS_PORT},
            max_checkers=settings.profile.health_checkers,
            ask_metrics=self._alarm_readings,
            state_path=paths.state / "route53.json",
        )
        self._arc: ArcCluster | None = None
        if has_cluster(deployment):
            self._arc = ArcCluster(
                deployment, settings.profile, paths.state / "arc.json", on_event=events
            )
            self._arc.on_change(self._dns.set_routing_control)

    async def start(self) -> None:
        await self._dns.start(self._settings.network.nameserver_address, DNS_PORT)
        if self._arc is not None:
            await self._arc.start(self._settings.network)

    async def close(self) -> None:
        if self._arc is not None:
            await self._arc.close()
        await self._dns.close()

    async def handle(self, command: str, arguments: dict[str, Any]) -> Any:
        handlers: dict[str, Callable[..., Any]] = {
            "switch_primaries_on": self._switch_primaries_on,
            "arc_fault": self._arc_fault,
            "unhealthy_endpoints": self._dns.unhealthy_endpoints,
            "apigateway_available": lambda region, available: self._dns.set_service_available(
                region, available
            ),
            "status": self._status,
        }
        return await dispatch(handlers, command, arguments)

    def _status(self) -> dict[str, Any]:
        arc = {} if self._arc is None else {"arc": self._arc.status()}
        return {**arc, "route53": self._dns.status()}

    def _arc_fault(self, region: str, mode: str) -> Any:
        if self._arc is None:
            raise PreconditionError("no service of this lab is switched by ARC")
        return self._arc.set_endpoint_fault(region, mode)

    async def _alarm_readings(
        self, region: str, names: Sequence[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """What Route 53's copy of a region's metrics says, had from the region itself."""
        found: Mapping[str, Mapping[str, str]] = await control.ask(
            self._paths.socket(region), "alarm_readings", names=list(names)
        )
        return found

    def _switch_primaries_on(self, services: Mapping[str, Any]) -> None:
        """How a deployment ends. A panel with a control On has been switched before: left alone.

        Only entries with routing controls have anything to switch; the others rest on the primary.
        """
        if self._arc is None:
            return
        primary = services["regions"][0]
        states = self._arc.states()
        for service in services["services"].values():
            parts = (service, service.get("database", {}))
            pairs = [part["routing_controls"] for part in parts if "routing_controls" in part]
            if pairs and not any(states[arn] for pair in pairs for arn in pair.values()):
                self._arc.set_states({pair[primary]: True for pair in pairs})


def alias_targets(deployment: Deployment, settings: Settings) -> dict[str, tuple[str, str]]:
    """API Gateway's regional domain names -> the region's address in this lab, and the region."""
    return {
        d.attributes["RegionalDomainName"].lower(): (settings.region_address(d.region), d.region)
        for d in deployment.of_type("AWS::ApiGateway::DomainName")
    }


async def run(paths: LabPaths, name: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings.load(paths.settings)
    deployment = Deployment.load(paths.deployment)
    part = make_part(paths, settings, deployment, name)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await part.start()
    server = await control.serve(str(paths.socket(name)), part.handle)
    gc.collect()
    gc.freeze()  # what lives from here to the end need not be looked at again by the collector
    await stop.wait()
    server.close()
    await part.close()


def make_part(paths: LabPaths, settings: Settings, deployment: Deployment, name: str) -> Part:
    if name == "global":
        return GlobalPart(paths, settings, deployment)
    from lab.region import RegionPart  # the global process needs none of it

    return RegionPart(paths, settings, deployment, name)


def main() -> None:
    root, name = sys.argv[1:]
    uvloop.run(run(LabPaths(Path(root)), name))


if __name__ == "__main__":
    main()
