"""Reads the take-over alarms: one call per region for all services, side by side and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from failover.errors import FailoverError
from failover.observe_database import cause_of
from failover.ports import CloudWatch, EndpointFailed
from failover.recovery import Recovery, Service
from failover.takeover import TakeOverLook
from failover.together import Batch

LOOK_TIMEOUT = 2.5
"""Seconds for one region's answer."""


class TakeOverLooks:
    """Reading that is under way."""

    def __init__(self, services: list[Service], batch: Batch[str, dict[str, str]]) -> None:
        self._services = services
        self._batch = batch

    def finish(self, target: str | None, patience: float) -> dict[str, TakeOverLook]:
        """service → what was read. `patience`: seconds for other regions than `target`."""
        self._batch.wait(patience if target else LOOK_TIMEOUT)
        left = max(0.0, LOOK_TIMEOUT - patience)
        results = self._batch.wait(left, lambda seen: target is None or target in seen)
        return {service.name: read_look(service, results) for service in self._services}


class TakeOverObserver:
    """Looks through the port."""

    def __init__(self, recovery: Recovery, cloudwatch: CloudWatch) -> None:
        self._recovery = recovery
        self._cloudwatch = cloudwatch

    def start(self, names: list[str]) -> TakeOverLooks:
        """Reads the alarms of `names`, in the background; asks nothing if they have none."""
        services = [s for s in (self._recovery.services[n] for n in names) if s.takeover]
        alarms: dict[str, list[str]] = {}
        for service in services:
            for takeover in service.takeover.values():
                alarms.setdefault(takeover.region, []).append(takeover.alarm)
        ask = self._cloudwatch.alarms
        return TakeOverLooks(
            services, Batch({r: partial(ask, r, names) for r, names in alarms.items()})
        )


def read_look(service: Service, results: Mapping[str, object]) -> TakeOverLook:
    """One service's part of what the regions said. A fault of ours is raised."""
    states, causes, refused = {}, {}, None
    for out, takeover in service.takeover.items():
        said = results.get(takeover.region)
        if isinstance(said, dict):
            if takeover.alarm in said:
                states[out] = str(said[takeover.alarm])
            else:
                causes[out] = f"there is no alarm {takeover.alarm}"
        elif isinstance(said, FailoverError | EndpointFailed):
            causes[out] = cause_of(said)
            refused = said if isinstance(said, FailoverError) else refused
        elif isinstance(said, Exception):
            raise said
        else:
            causes[out] = "no answer in time"
    return TakeOverLook(states, causes, refused)
