"""What a request comes to: pure functions from (recovery, states, request) to a `Plan`.

A plan holds wanted states, never toggles: computing it again after an interruption gives the rest
of the work, and none when everything is as wanted. Every control of a service that moves is named
in its one transaction, also those that already stand right: a stale read can then not leave a
service with both controls On or Off. The price is that ARC evaluates these no-op entries too.

What is done to the alarms of a service without controls is judged in `takeover`, and what to a
database in `database_plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from failover.database import DatabaseLook
from failover.database_plan import DatabasePlan, Mode, Phase, judge
from failover.errors import UsageError
from failover.recovery import HEALTH, Recovery, Service
from failover.takeover import TakeOverLook, TakeOverPlan
from failover.takeover import judge as judge_takeover

BATCH_LIMIT = 10
"""Controls in one UpdateRoutingControlStates (developer guide, "Quotas for routing control")."""
MUTATING_CALLS_PER_SECOND = 3
"""Per cluster endpoint (same page)."""
SPACING = 1.2 / MUTATING_CALLS_PER_SECOND
"""Seconds between two mutating calls to one endpoint; a fifth above the quota's mean, so that
network jitter cannot squeeze a fourth call into one second."""

T = TypeVar("T")
Wanted = Mapping[str, bool]
"""Routing control ARN → should it be On?"""
States = Mapping[str, bool | None]
"""Routing control ARN → is it On? None: the endpoints disagree. Controls that are not in it are
unknown to the cluster."""


@dataclass(frozen=True, slots=True)
class Request:
    """`move` and `back` name services and a target; `evacuate` names the region to leave."""

    command: str
    services: tuple[str, ...]
    target: str
    region: str | None = None
    """The region to leave; None for `move` and `back`."""
    allow_data_loss: bool = False
    """May a database be moved without its old region, losing what was not replicated?"""

    @property
    def mode(self) -> Mode:
        return Mode.UNPLANNED if self.allow_data_loss else Mode.PLANNED


@dataclass(frozen=True, slots=True)
class Entry:
    """One control, as it is and as it should be."""

    arn: str
    region: str
    current: bool | None
    """None: the endpoints disagree, as they do for some seconds after a change."""
    wanted: bool
    kind: str = "traffic"
    """"traffic", or "database" for the control that guards the database's role."""


@dataclass(frozen=True, slots=True)
class ServiceMove:
    """One service's part of a plan."""

    service: Service
    sources: tuple[str, ...]
    """Regions whose traffic control is On now: one, or none or several when something is odd.
    Without controls: the region that answers now, or none if that is not known."""
    target: str
    entries: tuple[Entry, ...]
    """Empty where the switch is not ARC."""
    database: DatabasePlan | None = None
    """None: it has none, or nothing of it could be asked."""
    takeover: TakeOverPlan | None = None
    """None: the switch is ARC."""

    @property
    def needed(self) -> bool:
        """A database that nobody can see is taken to be where its controls are: they are switched
        only after the database has taken a write there."""
        if self.database is None or self.database.phase is Phase.UNKNOWN:
            return self.switch_needed
        return self.switch_needed or self.database.needed

    @property
    def switch_needed(self) -> bool:
        if self.takeover is not None:
            return self.takeover.needed
        return any(entry.current != entry.wanted for entry in self.entries)

    @property
    def automatic(self) -> bool:
        """Does Route 53 move it by itself?"""
        return self.service.switch == HEALTH

    @property
    def source(self) -> str:
        if self.takeover is not None:
            return self.takeover.source
        if any(entry.current is None for entry in self.entries):
            return "disputed"
        return describe_active(self.sources)


@dataclass(frozen=True, slots=True)
class Plan:
    request: Request
    moves: tuple[ServiceMove, ...]
    """Those that need a change."""
    settled: tuple[ServiceMove, ...]
    """Those that already stand as wanted."""
    left_out: tuple[tuple[str, str], ...] = ()
    """(service, why it is not moved although it was asked for)."""

    @property
    def groups(self) -> tuple[tuple[ServiceMove, ...], ...]:
        """What is switched together, in order: one tuple per UpdateRoutingControlStates call, or
        one service that has an alarm.

        A service with a database has a group of its own, right behind its database's part. A move
        is all or nothing, so the databases, where more can go wrong, come first; an evacuation
        does not let anybody wait for them.
        """
        with_database = tuple((m,) for m in self.moves if m.database is not None)
        rest = [m for m in self.moves if m.database is None]
        others = (
            *batch([m for m in rest if m.service.has_arc], lambda m: len(m.entries)),
            *((m,) for m in rest if not m.service.has_arc),
        )
        if self.request.region is None:
            return (*with_database, *others)
        return (*others, *with_database)

    @property
    def batches(self) -> tuple[tuple[ServiceMove, ...], ...]:
        """The groups that are an UpdateRoutingControlStates call."""
        return tuple(group for group in self.groups if group[0].service.has_arc)

    @property
    def reasons_left_out(self) -> dict[str, str]:
        """service → every reason in one line."""
        found: dict[str, list[str]] = {}
        for name, why in self.left_out:
            found.setdefault(name, []).append(why)
        return {name: "; ".join(reasons) for name, reasons in found.items()}


def describe_active(regions: Sequence[str]) -> str:
    """ "us-east-1", or what is odd: "none (all Off)", "us-east-1 and us-west-2 (both On)"."""
    if not regions:
        return "none (all Off)"
    if len(regions) == 1:
        return regions[0]
    return " and ".join(regions) + (" (both On)" if len(regions) == 2 else " (all On)")


def active_regions(service: Service, states: States) -> tuple[str, ...]:
    return tuple(r for r, arn in service.routing_controls.items() if states.get(arn))


def check_request(
    recovery: Recovery,
    services: Sequence[str],
    target: str | None,
    region: str | None = None,
    *,
    choose: bool = True,
) -> None:
    """Raises UsageError with every wrong name and the names that would be right.

    `choose`: a target is needed; with two regions it may be left to us.
    """
    reasons = [
        f"no service {name!r}; known are {', '.join(sorted(recovery.services))}"
        for name in dict.fromkeys(services)
        if name not in recovery.services
    ]
    reasons += [
        f"no region {name!r}; known are {', '.join(recovery.regions)}"
        for name in dict.fromkeys((region, target))
        if name is not None and name not in recovery.regions
    ]
    if target is not None and target == region:
        reasons.append(f"{region} cannot be evacuated to itself")
    if choose and target is None and len(recovery.regions) != 2:
        reasons.append(f"say --to: there are {len(recovery.regions)} regions to choose from")
    if reasons:
        raise UsageError("the request cannot be understood:", reasons)


def other_region(recovery: Recovery, region: str) -> str:
    """Of two regions, the one that is not `region`."""
    return next(r for r in recovery.regions if r != region)


def missing_controls(recovery: Recovery, states: States, services: Iterable[str]) -> list[str]:
    """A reason for each control of `services` that the cluster does not know."""
    return [
        f"{name}: the cluster has no routing control {arn} (that of {region})"
        for name in services
        for region, arn in recovery.services[name].routing_controls.items()
        if arn not in states
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a plan is made from, beside the states of the routing controls."""

    databases: Mapping[str, DatabaseLook] = field(default_factory=dict)
    """service → its database, of those whose database can be asked."""
    takeovers: Mapping[str, TakeOverLook] = field(default_factory=dict)
    """service → its alarms, of those that have some."""
    leads_to: Mapping[str, str | None] = field(default_factory=dict)
    """service → the region to which DNS leads."""
    arc_fault: str = ""
    """Why nothing is known of routing controls, in a command that can do without them."""


def make_plan(
    recovery: Recovery, states: States, request: Request, seen: Seen | None = None
) -> Plan:
    """The plan for a checked `request`. Empty (`moves == ()`) exactly if the wanted states hold."""
    seen = seen or Seen()
    moves, settled, left_out = [], [], []
    for name in dict.fromkeys(request.services):
        service = recovery.services[name]
        if service.has_arc and seen.arc_fault:
            left_out.append((name, seen.arc_fault))
            continue
        target = _destination(service, states, request)
        database = _database_plan(service, seen.databases, target, request)
        if service.has_arc:
            move = _move(service, states, target, database)
        else:
            look = seen.takeovers.get(name, TakeOverLook())
            taken = judge_takeover(service, recovery.regions, target, look, seen.leads_to.get(name))
            move = ServiceMove(service, taken.sources, target, (), database, taken)
        reasons = list(move.takeover.refusals) if move.takeover else []
        if not reasons and not move.needed:
            settled.append(move)
            continue
        reasons += _unfit_database(move, request)
        left_out += [(name, reason) for reason in reasons]
        if not reasons:
            moves.append(move)
    return Plan(request, tuple(moves), tuple(settled), tuple(left_out))


def _database_plan(
    service: Service, looks: Mapping[str, DatabaseLook], target: str, request: Request
) -> DatabasePlan | None:
    if service.database is None or service.name not in looks:
        return None
    return judge(looks[service.name], service.database, target, request.mode)


def _unfit_database(move: ServiceMove, request: Request) -> list[str]:
    """Every reason for which a service that has a database must not be moved; none if it may."""
    database = move.service.database
    if database is None:
        return []
    if move.database is None:
        lacking = ", ".join(f"database.{name}" for name in database.missing)
        return [NO_DATABASE_MOVES + (f" (recovery.json lacks {lacking})" if lacking else "")]
    reasons = list(move.database.refusals)
    if not reasons:
        return []
    name, writer = move.service.name, move.database.writer
    if move.database.phase is Phase.DRAINED and writer:
        reasons.append(
            f"writes are stopped in {writer}; failover move {name} --to {writer} opens them again"
        )
    if request.region is not None and request.mode is Mode.PLANNED and writer == request.region:
        reasons.append(
            "it stays where it is; --allow-data-loss moves it without the old region and loses "
            f"what has not been replicated (lag: {move.database.lag})"
        )
    return reasons


NO_DATABASE_MOVES = (
    "it has a database that cannot be asked: its traffic must not be sent to a region that "
    "cannot write"
)


def without(plan: Plan, unfit: Mapping[str, str]) -> Plan:
    """`plan` without the services of `unfit` (service → why not); those left out already have one
    reason more."""
    return Plan(
        plan.request,
        tuple(m for m in plan.moves if m.service.name not in unfit),
        tuple(m for m in plan.settled if m.service.name not in unfit),
        (*plan.left_out, *unfit.items()),
    )


def batch(
    items: Iterable[T], size: Callable[[T], int], limit: int = BATCH_LIMIT
) -> tuple[tuple[T, ...], ...]:
    """`items` in order, in groups whose sizes add up to `limit` at most; no item is split.

    Raises ValueError for an item that is larger than `limit` by itself.
    """
    batches: list[list[T]] = []
    room = 0
    for item in items:
        needed = size(item)
        if needed > limit:
            raise ValueError(f"{needed} controls cannot change in one call; {limit} is the limit")
        if not batches or needed > room:
            batches.append([])
            room = limit
        batches[-1].append(item)
        room -= needed
    return tuple(tuple(group) for group in batches)


def schedule(calls: int, endpoints: int) -> tuple[tuple[int, float], ...]:
    """(endpoint number, earliest start in seconds from the first) for each of `calls`.

    Calls go round the endpoints, so that many of them are soon done while no endpoint sees more
    than its quota.
    """
    return tuple((n % endpoints, (n // endpoints) * SPACING) for n in range(calls))


def _move(
    service: Service, states: States, target: str, database: DatabasePlan | None
) -> ServiceMove:
    def entries(controls: Mapping[str, str], kind: str) -> list[Entry]:
        return [
            Entry(arn, region, states.get(arn), region == target, kind)
            for region, arn in controls.items()
        ]

    listed = entries(service.routing_controls, "traffic")
    if service.database is not None:
        listed += entries(service.database.routing_controls, "database")
    active = active_regions(service, states)
    return ServiceMove(service, active, target, tuple(listed), database)


def _destination(service: Service, states: States, request: Request) -> str:
    """The target; or, of a service that an evacuation does not concern, where it already is."""
    active = active_regions(service, states)
    elsewhere = len(active) == 1 and active[0] not in (request.region, request.target)
    return active[0] if request.region is not None and elsewhere else request.target
