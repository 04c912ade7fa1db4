"""Looks at databases: RDS, proxies and operator routes of all regions, side by side and bounded.

The lag is measured, not only read: `depth` of the region that writes makes a heartbeat, and the
others are asked until that one has arrived. Aurora's own figure is taken where there is one. The
downside is that a look writes one row; it is the same row each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from failover.database import DatabaseLook, Depth, Lag
from failover.errors import FailoverError
from failover.ports import EndpointFailed, Operator, Rds
from failover.recovery import Recovery, Service
from failover.together import Batch

LOOK_TIMEOUT = 4.0
"""Seconds for everything but the lag; a function in a VPC may have to start first."""
LAG_TIMEOUT = 1.5
"""Seconds for a heartbeat to arrive: more than the lag that is allowed."""
CLOCKS_DIFFER_MS = 250.0
"""By how much the clocks of two regions may differ, in milliseconds."""
ROUTE_TIMEOUT = 3.5
"""Seconds for one operator route: the service gives a hung database up after 3."""

V = TypeVar("V")
Key = tuple[str, str]
"""(what, region)."""


class DatabaseObserver:
    """Looks through the two ports."""

    def __init__(self, recovery: Recovery, rds: Rds, operator: Operator) -> None:
        self.recovery = recovery
        self.rds = rds
        self.operator = operator

    def services(self, names: list[str]) -> list[Service]:
        """Those of `names` whose database can be looked at."""
        found = [self.recovery.services[name] for name in names]
        return [s for s in found if s.database is not None and not s.database.missing]

    def start(
        self, names: list[str], target: str | None = None, patience: float = LOOK_TIMEOUT
    ) -> Batch[str, DatabaseLook]:
        """Looks at the databases of `names`, in the background.

        `patience`: seconds given to regions other than `target`; one that is being left may hang.
        """
        if target is not None:
            self.operator.prefer(target)
        return Batch(
            {s.name: partial(self.look, s, target, patience) for s in self.services(names)}
        )

    def look(self, service: Service, target: str | None, patience: float) -> DatabaseLook:
        """One look at one database. What fails is in `causes`; raises nothing of its own."""
        database = service.database
        assert database is not None
        regions = sorted(database.clusters, key=lambda region: region != target)
        rds, operator = self.rds, self.operator
        tasks: dict[Key, Callable[[], Any]] = {}
        for region in regions:
            tasks["depth", region] = partial(operator.depth, service, region, ROUTE_TIMEOUT)
            tasks["global", region] = partial(rds.global_cluster, region, database.global_cluster)
            tasks["cluster", region] = partial(rds.cluster, region, database.clusters[region])
            tasks["snapshots", region] = partial(rds.snapshots, region, database.clusters[region])
            tasks["targets", region] = partial(rds.targets, region, database.proxies[region])
        started = time.monotonic()
        batch = Batch(tasks)
        depths_asked = {("depth", region) for region in regions}
        seen = _Seen(_wait(batch, depths_asked, started, target, patience))
        # At once: what is waited for before the lag is read would count as lag.
        depths: dict[str, Depth] = seen.good("depth")
        lags, causes = self._lags(service, depths, started)
        seen = _Seen(_wait(batch, set(tasks), started, target, patience))
        return DatabaseLook(
            cluster=next(iter(seen.good("global").values()), None),
            clusters=seen.good("cluster"),
            targets=seen.good("targets"),
            depths=depths,
            lags=lags,
            snapshots=seen.good("snapshots"),
            causes={**seen.causes, **causes},
        )

    def _lags(
        self, service: Service, depths: Mapping[str, Depth], started: float
    ) -> tuple[dict[str, Lag], dict[Key, str]]:
        """region → lag, of all that answer but the one that takes writes; and causes."""
        beating = next((r for r, depth in depths.items() if depth.writable), None)
        tasks = {
            region: self._measurement(service, region, beating, started)
            for region in depths
            if region != beating
        }
        known, causes = {}, {}
        for region, result in Batch(tasks).wait(LAG_TIMEOUT + 0.2).items():
            if isinstance(result, Lag):
                known[region] = result
            elif _is_bad(result):
                causes["lag", region] = cause_of(result)
        return known, causes

    def _measurement(
        self, service: Service, region: str, beating: str | None, started: float
    ) -> Callable[[], Lag]:
        """Asks `region` until a heartbeat arrives that `beating` made since `started`.

        All that was committed before a heartbeat has arrived with it, so its age when it is first
        seen is an upper bound of the lag.
        """

        def measure() -> Lag:
            begun = time.monotonic()
            while True:
                left = begun + LAG_TIMEOUT - time.monotonic()
                lag = self.operator.lag(service, region, max(0.3, left))
                beat = lag.heartbeat
                if lag.ms is not None or beating is None:
                    return lag
                elapsed = (time.monotonic() - started) * 1000
                if beat and beat.region == beating and beat.age_ms <= elapsed + CLOCKS_DIFFER_MS:
                    return Lag(max(0.0, beat.age_ms), beat)
                if left <= 0:
                    return Lag(None, beat, more_than_ms=LAG_TIMEOUT * 1000)
                time.sleep(0.02)

        return measure


def _wait(
    batch: Batch[Key, Any], wanted: set[Key], started: float, target: str | None, patience: float
) -> Mapping[Key, Any]:
    """The results so far: when `wanted` are in; of other regions than `target` those that come
    within `patience` of the start."""
    needed = {key for key in wanted if key[1] == target}
    end = started + LOOK_TIMEOUT
    batch.wait(started + patience - time.monotonic(), lambda results: wanted <= results.keys())
    return batch.wait(end - time.monotonic(), lambda results: needed <= results.keys())


class _Seen:
    """Results by kind, and a cause for each that is none."""

    def __init__(self, results: Mapping[Key, Any]) -> None:
        self._results = results
        self.causes: dict[Key, str] = {
            key: cause_of(result) for key, result in results.items() if _is_bad(result)
        }

    def good(self, what: str) -> dict[str, Any]:
        """region → value, in the order of asking."""
        return {r: v for (w, r), v in self._results.items() if w == what and not _is_bad(v)}


def _is_bad(result: object) -> bool:
    """Is it a cause? Anything else that was raised is a fault of ours, and raised."""
    if isinstance(result, EndpointFailed | FailoverError):
        return True
    if isinstance(result, Exception):
        raise result
    return False


def cause_of(result: object) -> str:
    """One line of why something was not seen."""
    if isinstance(result, EndpointFailed):
        return result.cause
    return "; ".join(line.strip(" -") for line in str(result).splitlines())
