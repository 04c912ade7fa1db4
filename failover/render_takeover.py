"""Services with alarms in plain text and for the journal: plan, status, what is odd. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from failover.plan import ServiceMove
from failover.recovery import HEALTH, Service
from failover.takeover import (
    Publication,
    TakeOverLook,
    active_regions,
    describe_source,
    held_in,
    odd_positions,
    unread,
)

FREE, TAKEN, UNREAD = "free", "taken", "not read"


def position_text(taken: bool | None) -> str:
    """Is a region taken over by the other?"""
    return UNREAD if taken is None else (TAKEN if taken else FREE)


def plan_lines(move: ServiceMove) -> list[str]:
    """What will be published for a service, in order, and why."""
    plan = move.takeover
    assert plan is not None
    lines = [
        f"{move.service.name} ({move.service.switch}): {plan.source} → {plan.target}, "
        "published in this order:"
    ]
    lines += [
        f"  {number}. {'when that is seen, ' if p.waits else ''}publish {int(p.taken)} in "
        f"{p.region}: {p.out} {_change(p)} ({p.why})"
        for number, p in enumerate(plan.publications, 1)
    ]
    return [*lines, *(f"  {note}" for note in (*plan.notes, *plan.remarks))]


def _change(publication: Publication) -> str:
    current, wanted = position_text(publication.current), position_text(publication.taken)
    return wanted if current == wanted else f"{current} → {wanted}"


def settled_lines(move: ServiceMove) -> list[str]:
    """What is odd about a service that stands as wanted."""
    notes = move.takeover.notes if move.takeover else ()
    return [f"  {move.service.name}: {note}" for note in notes]


def plan_document(move: ServiceMove) -> dict[str, Any]:
    """A move's part for the journal; nothing where the switch is ARC."""
    plan = move.takeover
    if plan is None:
        return {}
    return {
        "publications": [
            {
                "region": p.region,
                "alarm": p.takeover.alarm,
                "takes_out": p.out,
                "current": position_text(p.current),
                "wanted": position_text(p.taken),
                "must": p.must,
                "waits": p.waits,
                "why": p.why,
            }
            for p in plan.publications
        ],
        "notes": [*plan.notes, *plan.remarks],
    }


def look_document(service: Service, look: TakeOverLook | None, regions: Sequence[str]) -> Any:
    """What the alarms say, by the region that each takes out."""
    look = look or TakeOverLook()
    positions = look.positions(service)
    return {
        region: {
            "position": position_text(positions[region]),
            "alarm": service.takeover[region].alarm,
            "in": service.takeover[region].region,
            "state": look.states.get(region),
            "cause": look.causes.get(region),
        }
        for region in regions
    }


def active_cell(
    service: Service, look: TakeOverLook | None, regions: Sequence[str], leads_to: str | None
) -> str:
    positions = (look or TakeOverLook()).positions(service)
    active = active_regions(service, regions, positions, leads_to)
    return describe_source(service, regions, positions, active)


def position_faults(
    service: Service, look: TakeOverLook | None, regions: Sequence[str]
) -> list[str]:
    """What is not as it should be of the alarms themselves."""
    look = look or TakeOverLook()
    positions = look.positions(service)
    return [
        *unread(service, positions, look, regions),
        *odd_positions(service, regions, positions),
    ]


def expected_region(
    service: Service, look: TakeOverLook | None, regions: Sequence[str], leads_to: str | None
) -> str | None:
    """The region that should answer; None if that depends on what could not be read.

    A service that moves by itself should be in its primary, or where it is held.
    """
    positions = (look or TakeOverLook()).positions(service)
    if service.switch == HEALTH:
        return None if None in positions.values() else held_in(positions, regions) or regions[0]
    active = active_regions(service, regions, positions, leads_to)
    return active[0] if len(active) == 1 else None


def moved_by_itself(service: Service, expected: str, leads_to: str | None) -> list[str]:
    """Of a service that is elsewhere because its health has moved it."""
    if service.switch != HEALTH or leads_to in (None, expected):
        return []
    return [
        f"Route 53 has moved it from {expected} to {leads_to} by itself; "
        f"failover move {service.name} --to {leads_to} holds it there"
    ]
