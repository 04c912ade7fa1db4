"""What moves cost those who write: the gap, the attempts in between, and what was lost. No I/O.

Of a service whose writes were counted, each event gets

- `write_gap_seconds`: the longest time between two consecutive acknowledged writes of all clients
  together, of those that end after the command and before the service's next event (that of a
  kill: before the event after its evacuation). None when no write was acknowledged in that time.
  Exact from a tenth of a second on; a shorter one is never longer than stated.
- `writes`, `refused`, `repeated`, `contradicted`: how many of these marks fell between the command
  and the next event (see `loadtest.record`);
- `ledger`: what the checks found that were made between the command and the next event (see
  `loadtest.ledger`), or None when there was none.

A planned move must lose nothing, so any finding after it is a reason to fail. An unplanned one may:
its losses are counted and shown. A duplicate is never in order, and neither is a loss that the lost
volume, where one was compared, does not confirm.

The downside: a check is tied to an event by the time at which it was made. One that is made after
the next command counts there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from loadtest.errors import InputError
from loadtest.moves import EVACUATION, FOREVER, PLANNED_MOVE, REGION_KILLED
from loadtest.record import MARKS, WRITES, Cell

KINDS = ("missing", "reverted", "resurrected", "duplicated")
LOSSES = KINDS[:3]
_NUMBERS = ("acknowledged", "unknown", "rows", *KINDS)
Cells = Mapping[str, Sequence[Cell]]
"""By mark, in order of time."""


def load_result(path: str | Path) -> dict[str, Any]:
    """One result of `loadtest.ledger`. Raises `InputError`."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise InputError([f"{path}: not JSON: {error}"]) from error
    wanted = ("service", "read_at", "by_tenant", *_NUMBERS)
    missing = (
        [key for key in wanted if key not in document] if isinstance(document, dict) else wanted
    )
    if missing:
        raise InputError([f"{path}: not a result of loadtest.ledger, {', '.join(missing)} missing"])
    return dict(document)


def marks_of(report: Mapping[str, Any], service: str) -> dict[str, list[Cell]]:
    """The marks of one service."""
    found: dict[str, list[Cell]] = {}
    for entry in report.get("marks", ()):
        if entry["service"] == service:
            cell = Cell(entry["count"], entry["first"], entry["last"])
            found.setdefault(entry["mark"], []).append(cell)
    return found


def with_writes(
    service: str,
    events: Sequence[Mapping[str, Any]],
    marks: Cells,
    results: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The events of one service, each with what is described above."""
    found = []
    for start, end, event in _windows(events):
        counts = {
            mark: sum(cell.count for cell in marks.get(mark, ()) if start <= cell.last < end)
            for mark in MARKS
        }
        checks = [r for r in results if r["service"] == service and start <= r["read_at"] < end]
        gap = write_gap(marks.get(WRITES, ()), start, _end_of_gap(events, event, end))
        found.append(
            {
                **event,
                "write_gap_seconds": gap,
                **counts,
                "ledger": _sum(checks) if checks else None,
            }
        )
    return found


def _windows(
    events: Sequence[Mapping[str, Any]],
) -> Iterable[tuple[float, float, Mapping[str, Any]]]:
    starts = [event["commanded_at"] for event in events]
    return zip(starts, [*starts[1:], FOREVER], events, strict=False)


def _end_of_gap(events: Sequence[Mapping[str, Any]], event: Mapping[str, Any], end: float) -> float:
    """An evacuation ends the outage that a kill began, so both have the same gap."""
    later = [e for e in events if e["commanded_at"] > event["commanded_at"]]
    if event["kind"] != REGION_KILLED or not later or later[0]["kind"] != EVACUATION:
        return end
    return float(later[1]["commanded_at"]) if len(later) > 1 else FOREVER


def write_gap(writes: Sequence[Cell], start: float, end: float) -> float | None:
    """The longest gap that ends after `start` and before `end`, in seconds."""
    edges = [(before.last, after.first) for before, after in pairwise(writes)]
    # Within a tenth of a second only the first and the last write are known.
    edges += [(cell.first, cell.last) for cell in writes]
    lengths = [after - before for before, after in edges if start < after < end]
    return round(max(lengths), 6) if lengths else None


def _sum(checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One check, or several made after the same event: what they found adds up."""
    last = checks[-1]
    total = {key: last[key] for key in _NUMBERS if key not in KINDS}
    total |= {kind: sum(check[kind] for check in checks) for kind in KINDS}
    total["by_tenant"] = {
        tenant: {
            kind: sum(c["by_tenant"].get(tenant, {}).get(kind, 0) for c in checks) for kind in KINDS
        }
        for tenant in sorted({tenant for check in checks for tenant in check["by_tenant"]})
    }
    volumes = [check["lost_volume"] for check in checks if "lost_volume" in check]
    if volumes:
        volume = volumes[-1]
        total["lost_volume"] = {**volume, "unconfirmed": len(volume["unconfirmed"])}
    return total


def reasons(
    service: str,
    events: Sequence[Mapping[str, Any]],
    moved: Iterable[float],
    keeps_ledger: bool,
    results: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Why the writes of one service make the run fail. `moved`: `commanded_at` of the events that
    moved it."""
    commanded = set(moved)
    found = []
    for event in events:
        way = f" to {event['to']}" if event["to"] else ""
        after = f"after the {event['kind'].replace('_', ' ')}{way}"
        if event["ledger"] is not None:
            found += [f"{service}: {reason} {after}" for reason in _ledger_reasons(event)]
        moves = event["commanded_at"] in commanded and event["kind"] in (PLANNED_MOVE, EVACUATION)
        if moves and keeps_ledger and event["ledger"] is None:
            found.append(f"{service}: the ledger was not checked {after}")
        if moves and event["write_gap_seconds"] is None:
            found.append(f"{service}: no write was acknowledged {after}")
    first = min((event["commanded_at"] for event in events), default=FOREVER)
    early = [r for r in results if r["service"] == service and r["read_at"] < first]
    found += [
        f"{service}: {check[kind]} {kind} before anything was commanded"
        for check in early
        for kind in KINDS
        if check[kind]
    ]
    return found


def _ledger_reasons(event: Mapping[str, Any]) -> list[str]:
    ledger = event["ledger"]
    must_not = KINDS if event["kind"] == PLANNED_MOVE else ("duplicated",)
    found = [f"{ledger[kind]} {kind}" for kind in must_not if ledger[kind]]
    if not ledger["acknowledged"]:
        found.append("the ledger was empty")
    unconfirmed = ledger.get("lost_volume", {}).get("unconfirmed", 0)
    if unconfirmed:
        found.append(f"{unconfirmed} losses are not confirmed by the lost volume")
    return found


def stretches(cells: Iterable[Cell], join: float) -> list[tuple[float, float]]:
    """From when to when there were marks, with gaps of less than `join` seconds closed."""
    found: list[tuple[float, float]] = []
    for cell in cells:
        if found and cell.first - found[-1][1] < join:
            found[-1] = (found[-1][0], cell.last)
        else:
            found.append((cell.first, cell.last))
    return found
