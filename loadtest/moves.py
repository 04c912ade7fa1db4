"""What was commanded, and what that means for where a service may answer from. No I/O.

Times are seconds since the epoch, read from the same clock as the report's.

The model of a service: it lives in the primary region until a planned move or an evacuation of its
region is commanded; from that moment it is expected in the target. Until the move has settled
(`ended_at` plus an allowance for caches and connections that drain) answers from the old region are
still in order. A kill moves nothing by itself; a restored region gets nothing back by itself.

The downside: a policy that moves services without a command (an alarm, a health check of the
endpoint) is not known here and is reported as a service that moved untold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from loadtest.errors import InputError

PLANNED_MOVE = "planned_move"
REGION_KILLED = "region_killed"
EVACUATION = "evacuation"
REGION_RESTORED = "region_restored"
KINDS = (PLANNED_MOVE, REGION_KILLED, EVACUATION, REGION_RESTORED)
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Move:
    """One commanded event."""

    kind: str
    commanded_at: float
    """Taken just before the command was given."""
    ended_at: float
    """When the command had returned; for a kill the same as `commanded_at` unless told."""
    services: tuple[str, ...] | None = None
    """Those it names, or None: every service."""
    source: str = ""
    """The region that is left, killed or restored."""
    target: str = ""
    """The region that is moved to; empty for a kill and a restoration."""

    def concerns(self, service: str) -> bool:
        return self.services is None or service in self.services


def parse(document: Any, regions: Sequence[str]) -> tuple[Move, ...]:
    """Reads a list of events as `loadtest.evidence` gets it; returns them in order of time.

    Each event: `kind`, `commanded_at`, `ended_at` (may be left out for a kill and a restoration),
    `service` or `services` (may be left out: all), `from`, `to`; for a kill and a restoration the
    region stands in `from`, `to` or `region`. Raises `InputError` naming every fault.
    """
    if not isinstance(document, list):
        raise InputError(["the moves must be a JSON list"])
    problems: list[str] = []
    moves = []
    for index, entry in enumerate(document):
        found = _problems(entry, regions)
        if found:
            problems.extend(f"move {index}: {problem}" for problem in found)
        else:
            moves.append(_move(entry))
    if problems:
        raise InputError(problems)
    return tuple(sorted(moves, key=lambda move: move.commanded_at))


def _problems(entry: Any, regions: Sequence[str]) -> list[str]:
    if not isinstance(entry, dict):
        return ["must be a JSON object"]
    kind = entry.get("kind")
    if kind not in KINDS:
        return [f"kind is {kind!r}; known are {', '.join(KINDS)}"]
    problems = []
    numbers = ["commanded_at"] + ["ended_at"] * (
        kind in (PLANNED_MOVE, EVACUATION) or "ended_at" in entry
    )
    problems += [
        f"{name} must be a number of seconds"
        for name in numbers
        if not isinstance(entry.get(name), int | float)
    ]
    if not problems and entry.get("ended_at", FOREVER) < entry["commanded_at"]:
        problems.append("ended_at is before commanded_at")
    names = ("from", "to") if kind in (PLANNED_MOVE, EVACUATION) else ("region",)
    for name in names:
        region = entry.get(name) if name != "region" else _region(entry)
        if region not in regions:
            problems.append(f"{name} is {region!r}; the regions are {', '.join(regions)}")
    services = _services(entry)
    if services is not None and not all(isinstance(name, str) for name in services):
        problems.append("services must be a list of names")
    if kind == PLANNED_MOVE and not services:
        problems.append("a planned move names its service or services")
    return problems


def _region(entry: dict[str, Any]) -> Any:
    return entry.get("region") or entry.get("from") or entry.get("to")


def _services(entry: dict[str, Any]) -> list[Any] | None:
    if "services" in entry:
        services = entry["services"]
        return services if isinstance(services, list) else [None]
    return [entry["service"]] if "service" in entry else None


def _move(entry: dict[str, Any]) -> Move:
    moving = entry["kind"] in (PLANNED_MOVE, EVACUATION)
    services = _services(entry)
    return Move(
        kind=entry["kind"],
        commanded_at=float(entry["commanded_at"]),
        ended_at=float(entry.get("ended_at", entry["commanded_at"])),
        services=None if services is None else tuple(services),
        source=entry["from"] if moving else _region(entry),
        target=entry["to"] if moving else "",
    )


@dataclass(frozen=True, slots=True)
class Transition:
    """A move that really moves one service."""

    move: Move
    source: str
    target: str
    settled_at: float


@dataclass(frozen=True, slots=True)
class Course:
    """Where one service is expected over time."""

    primary: str
    transitions: tuple[Transition, ...] = field(default=())

    def expected(self, at: float) -> str:
        """The region in which the service should be, or should be going to, at that time."""
        region = self.primary
        for transition in self.transitions:
            if transition.move.commanded_at <= at:
                region = transition.target
        return region

    def allowed(self, at: float) -> set[str]:
        """The regions from which an answer is in order at that time."""
        draining = {
            transition.source
            for transition in self.transitions
            if transition.move.commanded_at <= at < transition.settled_at
        }
        return draining | {self.expected(at)}

    def transition_of(self, move: Move) -> Transition | None:
        """How `move` moves this service, or None when it does not."""
        return next((t for t in self.transitions if t.move is move), None)


def course(service: str, moves: Iterable[Move], primary: str, settle: float) -> Course:
    """Where `service` is expected, given all moves in order of time.

    An evacuation moves a service only if it is in the region that is left. `settle` is in seconds.
    """
    transitions: list[Transition] = []
    region = primary
    for move in moves:
        if not move.target or not move.concerns(service) or move.target == region:
            continue
        if move.kind == EVACUATION and move.source != region:
            continue
        transitions.append(Transition(move, region, move.target, move.ended_at + settle))
        region = move.target
    return Course(primary, tuple(transitions))


def contradictions(services: Iterable[str], moves: Sequence[Move], primary: str) -> list[str]:
    """Planned moves that say they left a region in which the service was not."""
    found = []
    for service in services:
        where = course(service, moves, primary, 0.0)
        for move in moves:
            if move.kind != PLANNED_MOVE or not move.concerns(service):
                continue
            before = where.expected(move.commanded_at - 1e-6)
            if before != move.source:
                found.append(
                    f"{service} is said to have been moved from {move.source}, "
                    f"but was expected in {before}"
                )
    return found


def outages(moves: Sequence[Move], settle: float) -> list[tuple[float, float]]:
    """The times in which failed requests are the subject of the test and not a fault.

    From a kill until the evacuation of that region has settled; without an evacuation until the
    region is restored; without that for ever.
    """
    found = []
    for index, kill in enumerate(moves):
        if kill.kind != REGION_KILLED:
            continue
        later = [move for move in moves[index:] if move.source == kill.source]
        end = next((m for m in later if m.kind == EVACUATION), None) or next(
            (m for m in later if m.kind == REGION_RESTORED), None
        )
        found.append((kill.commanded_at, end.ended_at + settle if end else FOREVER))
    return found


def kill_before(evacuation: Move, moves: Sequence[Move]) -> Move | None:
    """The kill that made this evacuation necessary; None when the region was alive."""
    dead: Move | None = None
    for move in moves:
        if move is evacuation:
            return dead
        if move.source == evacuation.source and move.kind == REGION_KILLED:
            dead = move
        elif move.source == evacuation.source and move.kind == REGION_RESTORED:
            dead = None
    return None


def phases(
    moves: Sequence[Move], started_at: float, ended_at: float
) -> list[tuple[str, float, float]]:
    """The run cut at every command: (name, start, end). An outage is one phase with its evacuation.

    Why: while a region hangs, every request may be waiting for its time-out, so that no request
    *ends* between the kill and the evacuation.
    """
    cuts = [("the start", started_at)]
    for move in moves:
        if move.kind == EVACUATION and kill_before(move, moves) is not None:
            continue
        cuts.append((f"the {describe(move)}", move.commanded_at))
    edges = [*cuts, ("the end", ended_at)]
    return [(name, start, end) for (name, start), (_, end) in pairwise(edges)]


def describe(move: Move) -> str:
    """A move in a few words, for reasons and charts."""
    if move.kind == REGION_KILLED:
        return f"kill of {move.source}"
    if move.kind == REGION_RESTORED:
        return f"restoration of {move.source}"
    if move.kind == EVACUATION:
        return f"evacuation of {move.source} to {move.target}"
    return f"move of {', '.join(move.services or ())} to {move.target}"
