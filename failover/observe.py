"""What can be seen from outside: cluster, DNS, and who answers.

Everything is looked at side by side and bounded, so that a dead or hanging region costs a
look-up its own time-out at most, once. The downside is load: a status of fifty services opens a
hundred and fifty connections within a second or two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from failover.arc import Cluster, Reading
from failover.database import DatabaseLook
from failover.errors import FailoverError, NoEndpointError
from failover.events import Events
from failover.observe_database import LAG_TIMEOUT, DatabaseObserver
from failover.observe_database import LOOK_TIMEOUT as LOOK_SECONDS
from failover.observe_takeover import TakeOverLooks, TakeOverObserver
from failover.ports import Answer, Probe, Resolver, served_by
from failover.recovery import Recovery, Service
from failover.takeover import TakeOverLook
from failover.together import Batch

LOOK_TIMEOUT = 2.5
"""Seconds for resolving a name and getting one answer."""
DATABASE_TIMEOUT = LOOK_SECONDS + LAG_TIMEOUT + 0.5
"""Seconds for a look at the databases: everything, and then the lag."""
GRACE = 0.3
"""Seconds given to what is nice to know once what is needed has been seen."""


@dataclass(frozen=True, slots=True)
class Look:
    """One name, resolved and asked."""

    addresses: tuple[str, ...]
    answer: Answer


@dataclass(frozen=True, slots=True)
class View:
    """One service from outside. A look that did not return in time is missing or None."""

    host: Look | None = None
    """Through the failover name."""
    pinned: Mapping[str, Look] = field(default_factory=dict)
    """region → through the name pinned to it."""

    def known_addresses(self) -> dict[str, tuple[str, ...]]:
        return {region: look.addresses for region, look in self.pinned.items()}

    def dns_region(self) -> str | None:
        """The region to which the failover name resolves now."""
        return region_of(self.host.addresses, self.known_addresses()) if self.host else None

    def answering_region(self) -> str | None:
        """The region that answers through the failover name."""
        return served_by(self.host.answer, self.known_addresses()) if self.host else None

    def healthy(self, region: str) -> bool:
        """Does the pinned name of `region` answer well, and from that region?"""
        look = self.pinned.get(region)
        if look is None or not look.answer.ok:
            return False
        return look.answer.region in (None, region)


@dataclass(frozen=True, slots=True)
class Snapshot:
    reading: Reading
    views: Mapping[str, View]
    fault: FailoverError | None = None
    """Why the cluster could not be read at all, although its endpoints are there."""
    databases: Mapping[str, DatabaseLook] = field(default_factory=dict)
    """service → its database, of those whose database can be asked."""
    takeovers: Mapping[str, TakeOverLook] = field(default_factory=dict)
    """service → its alarms, of those whose switch is not ARC."""
    arc_asked: bool = True
    """False: no service has anything to do with the recovery cluster."""

    def unread(self) -> FailoverError | None:
        """Why it is not known where services are: of a kind of switch nothing could be read."""
        if self.fault is not None:
            return self.fault
        if self.arc_asked and not self.reading.states:
            return NoEndpointError("no endpoint of the recovery cluster answered")
        looks = self.takeovers.values()
        if self.takeovers and not any(look.states for look in looks):
            refused = next((look.refused for look in looks if look.refused), None)
            return refused or NoEndpointError("CloudWatch answers in no region")
        return None


def region_of(addresses: Iterable[str], known: Mapping[str, Iterable[str]]) -> str | None:
    """The one region that has all of `addresses`, or None."""
    found = set(addresses)
    owners = [region for region, its in known.items() if found and found <= set(its)]
    return owners[0] if len(owners) == 1 else None


def host_url(service: Service) -> str:
    """The URL of the failover name: scheme and port as of the pinned ones."""
    pinned = urlsplit(next(iter(service.pinned.values())))
    port = f":{pinned.port}" if pinned.port else ""
    return f"{pinned.scheme}://{service.host}{port}{service.probe_path}"


def pinned_url(service: Service, region: str) -> str:
    return service.pinned[region].rstrip("/") + service.probe_path


class Observer:
    """Looks at services through DNS and HTTP."""

    def __init__(
        self,
        recovery: Recovery,
        cluster: Cluster,
        resolver: Resolver,
        probe: Probe,
        databases: DatabaseObserver | None = None,
        takeovers: TakeOverObserver | None = None,
    ) -> None:
        self.databases = databases
        self.takeovers = takeovers
        self.recovery = recovery
        self.cluster = cluster
        self.resolver = resolver
        self.probe = probe
        self._resolved: dict[str, tuple[str, ...]] = {}

    def ask(self, service: Service, url: str, address: str) -> Answer:
        """One GET of a name of `service` at an address that DNS has given."""
        return replace(self.probe.get(url, address), routes_only=service.routes_only)

    def look(self, service: Service, url: str) -> Look:
        """Resolves the host of `url` and asks the first address for it. Never raises OSError."""
        started = time.monotonic()
        try:
            addresses = self.resolver.addresses(urlsplit(url).hostname or "")
        except OSError as error:
            ms = round((time.monotonic() - started) * 1000)
            return Look((), Answer(url, None, ms, error=str(error)))
        self._resolved[url] = addresses  # worth knowing even if nobody answers there in time
        return Look(addresses, self.ask(service, url, addresses[0]))

    def everything(self, names: Iterable[str], timeout: float = LOOK_TIMEOUT) -> Snapshot:
        """All endpoints and every look at `names`, within `timeout` seconds; one round.

        Without credentials the rest is still worth seeing: see `Snapshot.fault`.
        """
        services = [self.recovery.services[name] for name in names]
        looks = self._start(services, None)
        databases = self._start_databases(services, None)
        takeovers = self._start_takeovers(services)
        started = time.monotonic()
        reading, fault, asked = Reading(), None, any(s.has_arc for s in services)
        try:
            if asked:
                reading = self.cluster.read(everyone=True, timeout=timeout)
        except FailoverError as error:
            fault = error
        looks.wait(max(0.0, timeout - (time.monotonic() - started)))
        taken = takeovers.finish(None, 0) if takeovers else {}
        left = DATABASE_TIMEOUT - (time.monotonic() - started)
        found = _looks(databases, left)
        return Snapshot(reading, self._views(services, looks), fault, found, taken, asked)

    def around_move(
        self,
        names: Iterable[str],
        target: str,
        *,
        deadline: float,
        need_probe: bool = True,
        database_timeout: float = DATABASE_TIMEOUT,
        patience: float = LOOK_SECONDS,
        spare_others: bool = False,
    ) -> Snapshot:
        """A quorum of endpoints, the target's probes, the alarms and the databases; of the rest,
        what comes soon enough. `patience`: seconds for what other regions say of the latter two.

        The cluster is asked only if one of `names` is switched by it. Raises NoEndpointError when
        no endpoint answers within `deadline` seconds; with `spare_others`, and only if there are
        services that do without the cluster, that is the snapshot's `fault`.
        """
        services = [self.recovery.services[name] for name in names]
        looks = self._start(services, target)
        databases = self._start_databases(services, target, patience)
        takeovers = self._start_takeovers(services)
        started = time.monotonic()
        asked = any(s.has_arc for s in services)
        reading, fault = Reading(), None
        try:
            if asked:
                reading = self.cluster.read_until_answered(deadline)
        except FailoverError as error:
            if not spare_others or all(s.has_arc for s in services):
                raise
            fault = error
        needed = {(s.name, target) for s in services} if need_probe else set()
        looks.wait(LOOK_TIMEOUT, lambda seen: needed <= seen.keys())
        looks.wait(GRACE)
        taken = takeovers.finish(target, patience) if takeovers else {}
        left = database_timeout - (time.monotonic() - started)
        found = _looks(databases, left)
        return Snapshot(reading, self._views(services, looks), fault, found, taken, asked)

    def _start_takeovers(self, services: list[Service]) -> TakeOverLooks | None:
        return self.takeovers.start([s.name for s in services]) if self.takeovers else None

    def _start_databases(
        self, services: list[Service], target: str | None, patience: float = LOOK_SECONDS
    ) -> Batch[str, DatabaseLook]:
        if self.databases is None:
            return Batch({})
        return self.databases.start([s.name for s in services], target, patience)

    def _start(
        self, services: list[Service], target: str | None
    ) -> Batch[tuple[str, str | None], Look]:
        """Looks at (service, region), and (service, None) for the failover name; target first."""
        order: list[tuple[Service, str | None]] = [(s, target) for s in services if target]
        order += [(s, None) for s in services]
        order += [(s, r) for s in services for r in s.pinned if r != target]
        tasks = {}
        for service, region in order:
            url = host_url(service) if region is None else pinned_url(service, region)
            tasks[service.name, region] = lambda service=service, url=url: self.look(service, url)
        return Batch(tasks)

    def _views(
        self, services: list[Service], looks: Batch[tuple[str, str | None], Look]
    ) -> dict[str, View]:
        def seen(service: Service, region: str | None) -> Look:
            result = looks.results.get((service.name, region))
            if isinstance(result, Look):
                return result
            if isinstance(result, Exception):
                raise result
            url = pinned_url(service, region) if region else host_url(service)
            answer = Answer(url, None, 0, error="no answer in time")
            return Look(self._resolved.get(url, ()), answer)

        return {
            s.name: View(seen(s, None), {region: seen(s, region) for region in s.pinned})
            for s in services
        }


def _looks(looks: Batch[str, DatabaseLook], timeout: float) -> dict[str, DatabaseLook]:
    """service → what was seen within `timeout` seconds, of every database asked."""
    found = {}
    for name, result in looks.wait(max(0.0, timeout)).items():
        if isinstance(result, Exception):
            raise result
        found[name] = result
    return {name: found.get(name, DatabaseLook()) for name in looks.keys}


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a moved service was seen at its target, in milliseconds since the command started."""

    dns_ms: int | None = None
    answer_ms: int | None = None
    last: str = ""
    """What was seen last, for a report when `answer_ms` is None."""


class Watch:
    """Watches one service from outside until the target answers, in a thread of its own.

    Watching starts when the update is accepted, beside the read-back, so that the times are those
    of the service and not of the tool's other work.
    """

    def __init__(
        self, observer: Observer, events: Events, service: Service, target: str, view: View
    ) -> None:
        self._observer = observer
        self._events = events
        self._service = service
        self._target = target
        self._known = {region: set(look.addresses) for region, look in view.pinned.items()}
        self._url = host_url(service)
        self._stop = threading.Event()
        self._arrived = threading.Event()
        self._last_dns: tuple[str, ...] | None = None
        self._last_answer: str | None = None
        self.arrival = Arrival()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Watch:
        self._thread.start()
        return self

    def wait(self, timeout: float) -> Arrival:
        """What was seen, at the latest after `timeout` seconds."""
        self._arrived.wait(max(0.0, timeout))
        self._stop.set()
        return self.arrival

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stop.is_set():
            if self._look_once():
                self._arrived.set()
                return
            self._stop.wait(poll_interval(time.monotonic() - started))

    def _look_once(self) -> bool:
        """One look; is the target answering? A name that still leads elsewhere is not asked:
        a region that hangs would hold up the next look."""
        try:
            addresses = self._observer.resolver.addresses(self._service.host)
        except OSError as error:
            return self._note_answer(Answer(self._url, None, 0, error=str(error)))
        if self.arrival.dns_ms is None:
            self._note_dns(addresses)
        if region_of(addresses, self._known) not in (None, self._target):
            return False
        return self._note_answer(self._observer.ask(self._service, self._url, addresses[0]))

    def _note_answer(self, answer: Answer) -> bool:
        """Tells of an answer that differs from the last one; is it the target's?"""
        region = served_by(answer, self._known)
        said = region or answer.describe()
        if said != self._last_answer:
            self._last_answer = said
            self.arrival = Arrival(self.arrival.dns_ms, None, f"{self._service.host}: {said}")
            event = self._events.emit(
                "probe.answer",
                f"{self._service.name}: {self._service.host} "
                + (f"answers from {region}" if region else said),
                service=self._service.name,
                region=region,
                status=answer.status,
                error=answer.error,
                address=answer.address,
                took_ms=answer.ms,
            )
            if region == self._target:
                self.arrival = Arrival(self.arrival.dns_ms, event.ms)
        return region == self._target

    def _note_dns(self, addresses: tuple[str, ...]) -> None:
        """Records the first DNS answer that is the target's, and tells of every change."""
        self._learn(addresses)
        region = region_of(addresses, self._known)
        if addresses != self._last_dns or region == self._target:
            event = self._events.emit(
                "dns.answer",
                f"{self._service.name}: DNS answers {', '.join(addresses)}"
                + (f" ({region})" if region else ""),
                service=self._service.name,
                addresses=list(addresses),
                region=region,
            )
            last = f"DNS answers {', '.join(addresses)}" + (f" ({region})" if region else "")
            self.arrival = Arrival(event.ms if region == self._target else None, None, last)
        self._last_dns = addresses

    def _learn(self, addresses: tuple[str, ...]) -> None:
        """A regional endpoint changes its addresses: asks again when these are not yet known."""
        if set(addresses) <= {a for known in self._known.values() for a in known}:
            return
        for region, url in self._service.pinned.items():
            host = urlsplit(url).hostname or ""
            try:
                found = self._observer.resolver.addresses(host)
            except OSError as error:
                self._events.emit("dns.failed", "", host=host, cause=str(error))
            else:
                self._known.setdefault(region, set()).update(found)


def poll_interval(elapsed: float) -> float:
    """Seconds until the next look: close at first, when a switch is expected, then further."""
    if elapsed < 10:
        return 0.05
    return 0.25 if elapsed < 30 else 1.0
