"""Where a service with the switch "alarm" or "health" is, and what moves it. Pure.

Each of two regions has an alarm with which it takes the service over *from the other one*: the
alarm of the standby takes the primary out, and the other way round. Metric and alarm are in the
region that takes over, so a dead region never stands in the way: whoever takes over only has to
reach itself. With both taken out Route 53 finds nothing healthy and answers with the primary
(Route 53 developer guide, "How Amazon Route 53 chooses records when health checking is
configured"), which is how the primary takes over when the standby cannot be reached.

Every publication is a wanted position and safe to repeat; nothing is toggled. The downside of a
position that only one region knows: while that region is away, nobody can read or clear it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from failover.errors import FailoverError
from failover.recovery import HEALTH, Service, TakeOver

TAKEN = "ALARM"
"""The state of an alarm that takes a region out; OK and INSUFFICIENT_DATA, which is one that never
had a data point, do not."""

Positions = Mapping[str, bool | None]
"""region → is it taken over by the other? None: it could not be read."""
NO_RULE = "no safety rule guards this service: the order is kept by this tool alone"
SLOW = "writes are refused until Route 53 has seen the alarm's data, which takes a minute or two"


@dataclass(frozen=True, slots=True)
class TakeOverLook:
    """The alarms of one service. What was not read is missing from `states`."""

    states: Mapping[str, str] = field(default_factory=dict)
    """region → state of the alarm that takes it out."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """region → why the alarm that takes it out could not be read."""
    refused: FailoverError | None = None
    """What CloudWatch refused, if it did: no credentials, no permission."""

    def positions(self, service: Service) -> dict[str, bool | None]:
        return {
            region: self.states[region] == TAKEN if region in self.states else None
            for region in service.takeover
        }

    def cause(self, region: str) -> str:
        return self.causes.get(region, "no answer in time")


@dataclass(frozen=True, slots=True)
class Publication:
    """One data point: a position as it is, and as it should be."""

    out: str
    """The region whose position it is."""
    takeover: TakeOver
    taken: bool
    current: bool | None
    must: bool
    """Without it the move is not done. Of the others it is enough to have tried."""
    why: str
    waits: bool = False
    """Only once those before it are seen: alarms are evaluated each in its own time, and in the
    other order the service would be elsewhere for a while."""

    @property
    def region(self) -> str:
        """Where it is published, and read back."""
        return self.takeover.region

    @property
    def key(self) -> tuple[str, str]:
        return self.region, self.takeover.alarm


@dataclass(frozen=True, slots=True)
class TakeOverPlan:
    """What is published to make `target` answer, in order."""

    target: str
    source: str
    """Which region answers now, in words."""
    sources: tuple[str, ...]
    """The region that answers now, if that is known."""
    publications: tuple[Publication, ...]
    otherwise: tuple[Publication, ...] = ()
    """Instead, if the other region is gone by then."""
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is odd, for people."""
    remarks: tuple[str, ...] = ()
    """What else has to be known before it is done."""
    afterwards: tuple[str, ...] = ()
    """What has to be known once it is done."""

    @property
    def needed(self) -> bool:
        """Does a position that could be read stand otherwise than wanted?"""
        return any(p.current is not None and p.current is not p.taken for p in self.publications)


def answering(positions: Positions, regions: Sequence[str]) -> tuple[str, ...]:
    """The region that answers; both if it depends on a position that could not be read.

    `regions`: the primary first.
    """
    primary, standby = regions
    may_be = [
        (False, True) if positions.get(region) is None else (bool(positions[region]),)
        for region in (primary, standby)
    ]
    found = {standby if one and not other else primary for one, other in product(*may_be)}
    return tuple(region for region in regions if region in found)


def publications(
    service: Service, regions: Sequence[str], target: str, positions: Positions
) -> tuple[Publication, ...]:
    """What makes `target` answer, in order. A position that is None belongs to an alarm whose
    region could not be reached.
    """
    primary, standby = regions

    def publish(out: str, taken: bool, why: str, *, must: bool, waits: bool = False) -> Publication:
        return Publication(out, service.takeover[out], taken, positions.get(out), must, why, waits)

    if target == standby:
        return (
            publish(standby, False, f"or both are out, and {primary} answers", must=False),
            publish(primary, True, f"{standby} takes over from {primary}", must=True),
        )
    if positions.get(primary) is None:
        why = f"{standby} cannot be told; with both out {primary} answers"
        return (publish(standby, True, why, must=True),)
    waits = all(positions.get(region) is not False for region in regions)
    why = f"or the next take-over by {standby} fails"
    return (
        publish(primary, False, f"{standby} gives {primary} back", must=True),
        publish(standby, False, why, must=False, waits=waits),
    )


def judge(
    service: Service,
    regions: Sequence[str],
    target: str,
    look: TakeOverLook,
    leads_to: str | None = None,
) -> TakeOverPlan:
    """The plan for a service that is to be answered by `target`.

    `leads_to`: the region to which DNS leads.
    """
    positions = look.positions(service)
    primary, standby = regions
    otherwise: tuple[Publication, ...] = ()
    if target == primary and positions[primary] is not None and positions[standby] is not None:
        otherwise = publications(service, regions, target, {**positions, primary: None})
    sources = active_regions(service, regions, positions, leads_to)
    return TakeOverPlan(
        target=target,
        source=describe_source(service, regions, positions, sources),
        sources=sources if len(sources) == 1 else (),
        publications=publications(service, regions, target, positions),
        otherwise=otherwise,
        refusals=_refusals(service, regions, target, positions, look),
        notes=_notes(service, regions, target, look, leads_to),
        remarks=_remarks(service, regions, target, positions),
        afterwards=_afterwards(service, regions, target, positions),
    )


def active_regions(
    service: Service, regions: Sequence[str], positions: Positions, leads_to: str | None
) -> tuple[str, ...]:
    """The region that answers; several or none if that is not known. DNS tells where the positions
    leave it open, and always of a service that moves by itself.
    """
    found = answering(positions, regions)
    if service.switch == HEALTH:
        return (leads_to,) if leads_to else ()
    return (leads_to,) if leads_to in found else found


def held_in(positions: Positions, regions: Sequence[str]) -> str | None:
    """The region that has taken over from the other, which is not out itself."""
    for region, other in (tuple(regions), tuple(reversed(regions))):
        if positions.get(other) and positions.get(region) is False:
            return region
    return None


def describe_source(
    service: Service, regions: Sequence[str], positions: Positions, sources: Sequence[str]
) -> str:
    """ "us-east-1", or what is odd or worth knowing about it."""
    if not sources:
        return "not known"
    if len(sources) > 1:
        return f"not known ({' or '.join(sources)})"
    if all(positions.get(region) for region in regions):
        return f"{sources[0]} (both taken over)"
    if service.switch == HEALTH and None not in positions.values():
        held = held_in(positions, regions) == sources[0]
        return f"{sources[0]} ({'held' if held else 'by itself'})"
    by_dns = service.switch != HEALTH and len(answering(positions, regions)) > 1
    return sources[0] + (" (by DNS)" if by_dns else "")


def unread(
    service: Service, positions: Positions, look: TakeOverLook, regions: Sequence[str]
) -> list[str]:
    """A line for each position that could not be read."""
    return [
        f"whether {region} is taken over could not be read in "
        f"{service.takeover[region].region}: {look.cause(region)}"
        for region in regions
        if positions.get(region) is None
    ]


def odd_positions(service: Service, regions: Sequence[str], positions: Positions) -> list[str]:
    """What is left over of an earlier move, in words; empty in a resting state."""
    primary, standby = regions
    if not positions.get(standby):
        return []
    clear = f"failover move {service.name} --to {primary} clears it"
    if positions.get(primary):
        return [
            f"both regions are taken over: Route 53 finds none healthy and answers with {primary}; "
            f"{clear}"
        ]
    return [
        f"{standby} is still taken over: a take-over by {standby} would be answered by {primary} "
        f"all the same; {clear}, once {standby} answers"
    ]


def _refusals(
    service: Service, regions: Sequence[str], target: str, positions: Positions, look: TakeOverLook
) -> tuple[str, ...]:
    missing = unread(service, positions, look, regions)
    if len(missing) == len(regions):
        return tuple(missing)
    primary, standby = regions
    if target == standby and positions[primary] is None:
        return (*missing, f"{standby} takes over by its own CloudWatch, which has to answer")
    return ()


def _notes(
    service: Service,
    regions: Sequence[str],
    target: str,
    look: TakeOverLook,
    leads_to: str | None,
) -> tuple[str, ...]:
    primary, standby = regions
    positions = look.positions(service)
    notes = unread(service, positions, look, regions)
    notes += odd_positions(service, regions, positions)
    if target == standby and positions[standby] is None:
        notes.append(f"if {standby} is taken over, {primary} goes on answering until it is cleared")
    nothing_holds = service.switch == HEALTH and positions[primary] is False
    if target == primary and nothing_holds and leads_to == standby:
        notes.append(
            f"nothing holds it in {standby}: Route 53 has moved it there by itself, and moves it "
            f"back when {primary} is healthy"
        )
    return tuple(notes)


def _remarks(
    service: Service, regions: Sequence[str], target: str, positions: Positions
) -> tuple[str, ...]:
    primary, standby = regions
    remarks = []
    if service.switch == HEALTH:
        then = f"this holds it in {target} until it is moved back"
        if target == primary and positions[primary] is None:
            then = f"this holds it in {target} until {standby} answers and it is moved there again"
        elif target == primary:
            then = "this releases it, and health alone decides again"
        remarks.append(f"moves by itself; {then}")
    if service.database is not None:
        remarks += [NO_RULE, SLOW]
    return tuple(remarks)


def _afterwards(
    service: Service, regions: Sequence[str], target: str, positions: Positions
) -> tuple[str, ...]:
    primary, standby = regions
    back = f"failover move {service.name} --to {primary}"
    said = []
    if target == primary and positions[primary] is None:
        return (leftover_note(service, regions),)
    if service.switch == HEALTH:
        said.append(
            f"{service.name}: moves by itself; held in {standby} until: {back}"
            if target == standby
            else f"{service.name}: moves by itself again: its health alone decides"
        )
    return tuple(said)


def leftover_note(service: Service, regions: Sequence[str]) -> str:
    """After the primary took over without the standby."""
    primary, standby = regions
    return (
        f"{service.name}: {standby} stays taken over; when it answers again, run: "
        f"failover move {service.name} --to {primary}"
    )
