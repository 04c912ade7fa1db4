"""The part of the evidence's page about services that are written to. No I/O.

A table with one line per event: the gap, the attempts in between, and what the checks of the ledger
found; below it the same by tenant, and why attempts had to be repeated. It is empty when no service
was written to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from loadtest.losses import KINDS, LOSSES
from loadtest.moves import EVACUATION, PLANNED_MOVE
from loadtest.record import CONTRADICTED, REFUSED, REPEATED

DASH = "–"
WHAT = {
    REFUSED: "attempts refused",
    REPEATED: "attempts repeated",
    CONTRADICTED: "answers that contradict what was acknowledged",
}
"""The marks that have reasons, in words."""
COLUMNS = (
    "Write gap",
    "Acknowledged",
    "Refused",
    "Repeated",
    "Missing",
    "Reverted",
    "Resurrected",
    "Duplicated",
    "Checked",
)


def writing_services(evidence: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The services with marks of writes."""
    return {name: s for name, s in evidence["services"].items() if "marks" in s}


def write_tiles(evidence: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, attributes) of the tiles on top."""
    services = writing_services(evidence)
    if not services:
        return []
    events = [event for service in services.values() for event in service["events"]]
    planned = [event for event in events if event["kind"] == PLANNED_MOVE]
    others = [event for event in events if event["kind"] != PLANNED_MOVE]
    gaps = [e["write_gap_seconds"] for e in planned if e["write_gap_seconds"] is not None]
    lost, unplanned = _lost(planned), _lost(others)
    bad = ' class="bad"' if lost not in (None, 0) else ""
    return [
        ("Longest write gap, planned", f"{max(gaps):.2f} s" if gaps else DASH, ""),
        ("Writes lost, planned", _number(lost), bad),
        ("Writes lost, unplanned", _number(unplanned), ""),
    ]


def _lost(events: Iterable[Mapping[str, Any]]) -> int | None:
    checked = [event["ledger"] for event in events if event["ledger"] is not None]
    return sum(ledger[kind] for ledger in checked for kind in LOSSES) if checked else None


def _number(count: int | None) -> str:
    return DASH if count is None else f"{count:,}"


def no_loss(evidence: Mapping[str, Any]) -> str:
    """A sentence for a run that passed, if its ledger was checked after a planned move."""
    services = writing_services(evidence).values()
    events = [event for service in services for event in service["events"]]
    planned = [e for e in events if e["kind"] == PLANNED_MOVE and e["ledger"] is not None]
    return "No planned move lost or doubled an acknowledged write." if planned else ""


def writes_legend(evidence: Mapping[str, Any]) -> str:
    """A sentence about the lanes below the columns, if there are any."""
    if not writing_services(evidence):
        return ""
    return " Below that, green: writes were acknowledged; grey: writes were refused for a move."


def writes_section(evidence: Mapping[str, Any]) -> str:
    """HTML, or nothing."""
    services = writing_services(evidence)
    if not services:
        return ""
    rows = [_row(name, event) for name, s in services.items() for event in s["events"]]
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    table = (
        '<div class="card"><table><caption>Writes. The gap is the longest time between two '
        "acknowledged writes around the event. Refused: attempts answered 503 because writes were "
        "stopped; repeated: attempts that failed in another way; both were followed by another "
        "attempt. The last five columns are the comparison of the ledger of acknowledged writes "
        "with the database that served after the event.</caption><thead>"
        '<tr><th scope="col">Service</th><th scope="col" class="text">Event</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    return "\n".join(["<h2>Writes</h2>", table, *_notes(services)])


def _row(name: str, event: Mapping[str, Any]) -> str:
    gap, ledger = event["write_gap_seconds"], event["ledger"]
    planned = event["kind"] == PLANNED_MOVE
    cells = [
        DASH if gap is None else f"{gap:.2f} s",
        *(f"{event[mark]:,}" for mark in ("writes", "refused", "repeated")),
    ]
    plain = "".join(f"<td>{cell}</td>" for cell in cells)
    found = "".join(_found(ledger, kind, planned) for kind in KINDS)
    checked = DASH if ledger is None else f"{ledger['acknowledged']:,}"
    what = event["kind"].replace("_", " ")
    moves = event["kind"] in (PLANNED_MOVE, EVACUATION)
    what += f" to {event['to']}" if moves else f": {event['from']}"
    return (
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(what)}</td>'
        f"{plain}{found}<td>{checked}</td></tr>"
    )


def _found(ledger: Mapping[str, Any] | None, kind: str, planned: bool) -> str:
    if ledger is None:
        return f"<td>{DASH}</td>"
    bad = ledger[kind] and (planned or kind not in LOSSES)
    return f'<td class="bad">{ledger[kind]:,}</td>' if bad else f"<td>{ledger[kind]:,}</td>"


def _notes(services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    notes = []
    for name, service in services.items():
        for event in service["events"]:
            notes += [f"{name}, {note}" for note in _ledger_notes(event)]
        for mark, reasons in service.get("reasons", {}).items():
            why = ", ".join(f"{n} x {reason}" for reason, n in reasons.items())
            notes.append(f"{name}, {WHAT[mark]}: {why}")
    return [f'<p class="soft">{escape(note)}.</p>' for note in notes]


def _ledger_notes(event: Mapping[str, Any]) -> list[str]:
    ledger = event["ledger"]
    if ledger is None:
        return []
    what = event["kind"].replace("_", " ")
    notes = []
    for tenant, counts in ledger["by_tenant"].items():
        found = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        if found:
            notes.append(f"{what}, tenant {tenant}: {found}")
    volume = ledger.get("lost_volume")
    if volume:
        notes.append(
            f"{what}: the lost volume confirms {volume['confirmed']} losses and does not confirm "
            f"{volume['unconfirmed']}; it differs from the database that serves in "
            f"{volume['explained']} more rows, which are as acknowledged"
        )
    return notes
