"""`Route53`: the state (switches, checkers' opinions), the name server, the health checkers.

Every change goes one way: a new fact -> the health checks it reaches -> the records they reach ->
forget remembered answers -> tell `on_event`. What a check can reach is worked out once, so one
switch among hundreds costs what its own service costs.

Downside: of probed checks nothing is stored; they start healthy, as new ones do. After a restart
the switch positions must be told again (the cluster does so at start). Checks on alarms keep their
last known status on disk.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from lab.model import Deployment
from lab.route53.health import Checker, HealthCheck, Knowledge, dependants, is_healthy, observe
from lab.route53.metrics import Ask, MetricFeed
from lab.route53.probes import Result, probe
from lab.route53.reading import read
from lab.route53.records import GroupKey, Record, Zone
from lab.route53.responder import Responder
from lab.route53.selection import (
    Conditions,
    Outcome,
    Target,
    decide,
    group_outcomes,
    pick,
    record_healthy,
)
from lab.route53.server import NameServer
from lab.settings import Profile

OnEvent = Callable[[dict[str, Any]], None]


class Route53:
    """DNS and health checks of one deployment, in the running event loop."""

    def __init__(
        self,
        deployment: Deployment,
        profile: Profile,
        targets: Mapping[str, tuple[str, str]],
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        *,
        on_event: OnEvent | None = None,
        port_map: Mapping[int, int] | None = None,
        max_checkers: int | None = None,
        ask_metrics: Ask | None = None,
        state_path: Path | None = None,
    ) -> None:
        """Reads zones, records and health checks.

        Args:
            deployment: with resources of AWS::Route53::*; a RECOVERY_CONTROL check is unhealthy
                until `set_routing_control` says otherwise.
            profile: TTL of aliases, and the scale of all health-check times.
            targets: DNS name of an AWS resource that an alias may point to (lower case, no final
                dot) -> its address and region.
            clock: seconds since the epoch, for events.
            rng: draws weighted and multivalue answers.
            on_event: is told of each health check and each answer that changed.
            port_map: port of an endpoint on AWS -> its port here.
            max_checkers: at most so many checkers probe for one health check; AWS uses one per
                region of the check, 8 by default.
            ask_metrics: what the data of a region's alarms say; without it there are never enough.
            state_path: keeps the last known status of checks on alarms.

        Raises:
            DeploymentRefused: with all reasons.
            LabError: what is in `state_path` cannot be read.
        """
        self._targets = {name: Target(*target) for name, target in targets.items()}
        configuration = read(deployment, self._targets)
        self._zones = configuration.zones
        self._checks = configuration.checks
        self._profile = profile
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - answers, not secrets
        self._on_event = on_event
        self._port_map = dict(port_map or {})
        self._routing_controls: dict[str, bool] = {}
        self._checkers: dict[str, list[Checker]] = {
            check.id: [Checker(region) for region in check.regions[:max_checkers]]
            for check in self._checks.values()
            if check.probed
        }
        self._feed = MetricFeed(
            self._checks, ask_metrics, profile.alarm_scale, state_path, self._review
        )
        self._known = Knowledge(
            self._checks, self._routing_controls, self._checkers, self._feed.followed
        )
        self._dependants = dependants(self._checks)
        self._followers: dict[str, list[str]] = {}
        for check in self._checks.values():
            if check.routing_control is not None:
                self._followers.setdefault(check.routing_control, []).append(check.id)
        self._unavailable: frozenset[str] = frozenset()
        self._statuses = {check_id: is_healthy(check_id, self._known) for check_id in self._checks}
        self._by_check, self._by_region = _influence(self._zones, self._targets)
        self._responder = Responder(self._zones, self.conditions, self._rng)
        self._server = NameServer(self._responder.answer_udp, self._responder.answer_tcp)
        self._tasks: list[asyncio.Task[None]] = []
        self._address: tuple[str, int] | None = None
        self._answers: dict[tuple[str, GroupKey], tuple[Outcome, ...]] = {
            (zone.id, key): self._outcomes(zone, key) for zone in self._zones for key in zone.groups
        }

    @property
    def address(self) -> tuple[str, int]:
        """Host and port while started."""
        if self._address is None:
            raise RuntimeError("not started")
        return self._address

    async def start(self, host: str, port: int) -> None:
        """Listens on UDP and TCP and starts the health checkers.

        Raises:
            CannotListen: the address is in use or is not this machine's.
        """
        self._address = await self._server.start(host, port)
        for number, (check_id, checkers) in enumerate(self._checkers.items()):
            for position in range(len(checkers)):
                # All probes of all checks spread over the interval, so that none come in bursts.
                phase = (position + number / len(self._checkers)) / len(checkers)
                self._run(self._check_forever(self._checks[check_id], position, phase))
        for region in self._feed.regions:
            self._run(self._feed.follow_forever(region))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report_crash)
        self._tasks.append(task)

    async def close(self) -> None:
        """Stops listening and checking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._server.close()
        self._address = None

    def answer(self, query: bytes) -> bytes | None:
        """The answer to one packet, as UDP would carry it; None if there is none."""
        return self._responder.answer_udp(query)

    def set_routing_control(self, arn: str, is_on: bool) -> None:
        """A routing control's position has reached Route 53. Controls without check are fine."""
        self._routing_controls[arn] = is_on
        for check_id in self._followers.get(arn, ()):
            self._review(check_id, "routing control " + ("On" if is_on else "Off"))

    def set_service_available(self, region: str, available: bool) -> None:
        """Is the API Gateway service of the region up, as alias records evaluate it?"""
        before = self._unavailable
        self._unavailable = before - {region} if available else before | {region}
        if self._unavailable != before:
            self._refresh(self._by_region.get(region, ()))

    def conditions(self) -> Conditions:
        """What answers depend on now."""
        return Conditions(self._statuses, self._targets, self._unavailable, self._profile.alias_ttl)

    def _outcomes(self, zone: Zone, key: GroupKey) -> tuple[Outcome, ...]:
        return group_outcomes(zone.groups[key], zone, key[0], self.conditions())

    def _review(self, check_id: str, reason: str) -> None:
        """Works the check and all that are calculated from it out again."""
        affected: dict[tuple[str, GroupKey], None] = {}
        for reached in self._dependants[check_id]:
            healthy = is_healthy(reached, self._known)
            if healthy == self._statuses[reached]:
                continue
            self._statuses[reached] = healthy
            affected.update(dict.fromkeys(self._by_check.get(reached, ())))
            self._tell(
                "health_check_changed",
                health_check=reached,
                type=self._checks[reached].type,
                healthy=healthy,
                reason=reason if reached == check_id else f"health check {check_id}",
            )
        self._refresh(tuple(affected))

    def _refresh(self, affected: tuple[tuple[str, GroupKey], ...]) -> None:
        if not affected:
            return
        self._responder.forget()
        zones = {zone.id: zone for zone in self._zones}
        for zone_id, key in affected:
            before = self._answers[zone_id, key]
            after = self._outcomes(zones[zone_id], key)
            if after != before:
                self._answers[zone_id, key] = after
                self._tell(
                    "answer_changed",
                    name=key[0],
                    type=key[1],
                    before=_describe(before),
                    after=_describe(after),
                )

    def _tell(self, kind: str, **what: Any) -> None:
        if self._on_event is not None:
            self._on_event({"at": self._clock(), "kind": kind, **what})

    async def _check_forever(self, check: HealthCheck, position: int, phase: float) -> None:
        """One checker's life; it starts after `phase` (0…1) of the interval."""
        loop = asyncio.get_running_loop()
        interval = check.interval * self._profile.health_check_scale
        due = loop.time() + interval * phase
        while True:
            await asyncio.sleep(due - loop.time())
            result = await self._probe(check)
            checkers = self._checkers[check.id]
            checkers[position] = observe(
                checkers[position], result.passed, result.saw, check.threshold
            )
            self._review(check.id, f"{checkers[position].region}: {result.saw}")
            due = max(due + interval, loop.time())

    async def _probe(self, check: HealthCheck) -> Result:
        address = check.ip_address or self._look_up(check.domain_name or "")
        if address is None:
            return Result(False, "DNS resolution failed")
        assert check.port is not None
        port = self._port_map.get(check.port, check.port)
        return await probe(check, address, port, self._profile.health_check_patience)

    def _look_up(self, name: str) -> str | None:
        """An IPv4 address of a name of ours; no other name server is asked."""
        if name in self._targets:
            return self._targets[name].address
        decision = decide(self._zones, name, "A", self.conditions())
        if not decision.outcomes:
            return None
        rrsets = pick(decision.outcomes, self._rng).rrsets
        return rrsets[-1].values[0] if rrsets and rrsets[-1].type == "A" else None

    def unhealthy_endpoints(self) -> list[str]:
        """The probed checks that are unhealthy, each with what its checkers saw."""
        found = []
        for check in self._checks.values():
            if check.probed and not self._statuses[check.id]:
                name = check.domain_name or check.ip_address
                seen = sorted({checker.last for checker in self._checkers[check.id]})
                found.append(f"{check.type} {name}:{check.port}{check.path}: {', '.join(seen)}")
        return found

    def status(self) -> dict[str, Any]:
        """The state for a person or a program, ready for JSON."""
        return {
            "address": None if self._address is None else "{}:{}".format(*self._address),
            "answers_given": self._responder.answers,
            "unavailable_regions": sorted(self._unavailable),
            "names": [
                {"name": key[0], "type": key[1], "answers": _describe(outcomes)}
                for (_, key), outcomes in self._answers.items()
            ],
            "records": [
                self._record_status(record, zone)
                for zone in self._zones
                for group in zone.groups.values()
                for record in group
            ],
            "checks": [self._check_status(check) for check in self._checks.values()],
        }

    def _record_status(self, record: Record, zone: Zone) -> dict[str, Any]:
        return {
            "name": record.name,
            "type": record.type,
            "policy": record.policy,
            "set_identifier": record.set_identifier,
            "failover": record.failover,
            "weight": record.weight,
            "alias": None if record.alias is None else record.alias.dns_name,
            "values": list(record.values),
            "health_check": record.health_check,
            "healthy": record_healthy(record, zone, self.conditions()),
        }

    def _check_status(self, check: HealthCheck) -> dict[str, Any]:
        return {
            "id": check.id,
            "type": check.type,
            "healthy": self._statuses[check.id],
            "inverted": check.inverted,
            "disabled": check.disabled,
            "routing_control": check.routing_control,
            "children": list(check.children),
            "alarm": self._alarm_status(check),
            "checkers": [
                {"region": c.region, "healthy": c.healthy, "probes": c.probes, "last": c.last}
                for c in self._checkers.get(check.id, ())
            ],
        }

    def _alarm_status(self, check: HealthCheck) -> dict[str, str] | None:
        if check.alarm is None:
            return None
        region, name = check.alarm
        followed = self._feed.followed[check.id]
        return {
            "region": region,
            "name": name,
            "now": followed.now,
            "last": followed.last,
            "insufficient": check.insufficient,
        }


def _report_crash(task: asyncio.Task[None]) -> None:
    """A task that ends by an exception is a fault of this program: say so at once."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler(
            {"message": "a health checker has crashed", "exception": error, "task": task}
        )


def _describe(outcomes: tuple[Outcome, ...]) -> list[dict[str, Any]]:
    """Possible answers for people: values of the last record set, and the share in 0…1."""
    return [
        {
            "values": list(outcome.rrsets[-1].values) if outcome.rrsets else [],
            "share": round(float(outcome.share), 4),
        }
        for outcome in outcomes
    ]


_Reach = dict[str, tuple[tuple[str, GroupKey], ...]]


def _influence(zones: tuple[Zone, ...], targets: Mapping[str, Target]) -> tuple[_Reach, _Reach]:
    """Which groups a health check reaches, and which a region's API Gateway reaches."""
    by_check: dict[str, list[tuple[str, GroupKey]]] = {}
    by_region: dict[str, list[tuple[str, GroupKey]]] = {}
    for zone in zones:
        for key in zone.groups:
            for record in _tree(zone, key):
                if record.health_check is not None:
                    by_check.setdefault(record.health_check, []).append((zone.id, key))
                if record.alias is not None and record.alias.hosted_zone_id != zone.id:
                    region = targets[record.alias.dns_name].region
                    by_region.setdefault(region, []).append((zone.id, key))
    return (
        {check: tuple(dict.fromkeys(keys)) for check, keys in by_check.items()},
        {region: tuple(dict.fromkeys(keys)) for region, keys in by_region.items()},
    )


def _tree(zone: Zone, key: GroupKey) -> list[Record]:
    """The records of a group and of all groups that its aliases lead to."""
    keys, records = [key], []
    for current in keys:
        for record in zone.groups[current]:
            records.append(record)
            if record.alias is not None and record.alias.hosted_zone_id == zone.id:
                following = (record.alias.dns_name, record.type)
                if following not in keys:
                    keys.append(following)
    return records
