"""The journal of one command: a JSON file that says what was, what was planned and what was seen.

It is rewritten, whole and atomically, after every step, so that a tool that is killed leaves the
truth so far behind. A journal that cannot be written is reported and never stops a recovery.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from failover.arc import Reading
from failover.events import Event, iso
from failover.observe import Look, Snapshot, View
from failover.plan import Plan, ServiceMove, States, active_regions
from failover.recovery import Recovery
from failover.render_database import look_document
from failover.render_database import plan_document as database_plan_document
from failover.render_takeover import look_document as takeover_document
from failover.render_takeover import plan_document as takeover_plan_document
from failover.steps import Run
from failover.takeover import TakeOverLook
from failover.takeover import active_regions as active_by_alarms

FORMAT = 1
JOURNALS = 50
"""How many of the newest are searched for what was known before."""


class Journal:
    """Writes one document to `<directory>/<UTC time>-<command>-<pid>.json`."""

    def __init__(self, directory: Path, command: str, at: float) -> None:
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = directory / f"{stamp}-{command}-{os.getpid()}.json"
        self.fault: str | None = None

    def write(self, document: Mapping[str, Any]) -> None:
        """Replaces the file's content. Sets `fault` instead of raising OSError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(".tmp")
            draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
            draft.replace(self.path)
        except OSError as error:
            self.fault = f"the journal {self.path} cannot be written: {error}"


def command_document(
    recovery: Recovery, command: list[str], started_at: float, events: list[Event]
) -> dict[str, Any]:
    """The frame of every document, also printed by `--json`."""
    return {
        "version": FORMAT,
        "command": command,
        "started_at": iso(started_at),
        "recovery_file": str(recovery.path),
        "events": [event.document() for event in events],
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    return {
        "command": plan.request.command,
        "target": plan.request.target,
        "evacuated": plan.request.region,
        "moves": [_move_document(move) for move in plan.moves],
        "already_there": [_move_document(move) for move in plan.settled],
        "left_out": plan.reasons_left_out,
        "calls": [[move.service.name for move in moves] for moves in plan.batches],
    }


def _move_document(move: ServiceMove) -> dict[str, Any]:
    return {
        "service": move.service.name,
        "switch": move.service.switch,
        "from": list(move.sources),
        "to": move.target,
        "controls": [
            {
                "arn": e.arn,
                "region": e.region,
                "kind": e.kind,
                "current": on_off(e.current),
                "wanted": on_off(e.wanted),
            }
            for e in move.entries
        ],
        **takeover_plan_document(move),
        **({"database": database_plan_document(move.database)} if move.database else {}),
    }


def snapshot_document(snapshot: Snapshot, recovery: Recovery) -> dict[str, Any]:
    """What was seen: endpoints, and per service its switch and the views from outside."""
    asked = len(recovery.cluster_endpoints) if snapshot.arc_asked else 0
    return {
        "endpoints": reading_document(snapshot.reading, asked),
        "services": {
            name: {
                "switch": recovery.services[name].switch,
                "controls": {
                    region: control_text(snapshot.reading.agreed(), arn)
                    for region, arn in recovery.services[name].routing_controls.items()
                },
                **_takeover_document(name, snapshot, recovery),
                **view_document(view),
                **_database_document(name, snapshot, recovery),
            }
            for name, view in snapshot.views.items()
        },
    }


def _takeover_document(name: str, snapshot: Snapshot, recovery: Recovery) -> dict[str, Any]:
    service = recovery.services[name]
    if service.has_arc:
        return {}
    look = snapshot.takeovers.get(name)
    return {"takeover": takeover_document(service, look, recovery.regions)}


def _database_document(name: str, snapshot: Snapshot, recovery: Recovery) -> dict[str, Any]:
    look, database = snapshot.databases.get(name), recovery.services[name].database
    if look is None or database is None:
        return {}
    controls = {
        region: control_text(snapshot.reading.agreed(), arn)
        for region, arn in database.routing_controls.items()
    }
    return {"database": {"controls": controls, **look_document(look, database)}}


def last_lag(directory: Path, service: str, region: str) -> str:
    """What the newest journal that knows it says of the lag of `region`; empty if none does.

    For a region that cannot be measured any more. Files that cannot be read are passed over.
    """
    for file in sorted(directory.glob("*.json"), reverse=True)[:JOURNALS]:
        try:
            document = json.loads(file.read_text("utf-8"))
            for moment in ("after", "before"):
                seen = document[moment]["services"][service]["database"]["regions"][region]
                if seen["lag_ms"] is not None:
                    return (
                        f"the lag was {seen['lag_ms']:.0f} ms at {document['started_at']} "
                        f"({file.name})"
                    )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


def reading_document(reading: Reading, asked: int) -> dict[str, Any]:
    return {
        "asked": asked,
        "answered": {region: {"ms": reading.ms.get(region)} for region in reading.states},
        "causes": dict(reading.causes),
        "disagreements": {
            arn: {region: on_off(is_on) for region, is_on in said.items()}
            for arn, said in reading.disagreements().items()
        },
    }


def view_document(view: View) -> dict[str, Any]:
    return {
        "dns_region": view.dns_region(),
        "answering_region": view.answering_region(),
        "host": _look_document(view.host),
        "pinned": {region: _look_document(look) for region, look in view.pinned.items()},
    }


def _look_document(look: Look | None) -> dict[str, Any] | None:
    if look is None:
        return None
    answer = look.answer
    return {
        "url": answer.url,
        "addresses": list(look.addresses),
        "status": answer.status,
        "region": answer.region,
        "ms": answer.ms,
        "error": answer.error,
    }


def measurements(run: Run) -> dict[str, Any]:
    """Per service, when what was seen, in milliseconds from the command to ARC."""
    return {name: timeline.document() for name, timeline in run.timelines.items()}


def control_text(states: States, arn: str) -> str:
    """On, Off, disputed (the endpoints disagree) or unknown (no endpoint told)."""
    return on_off(states[arn]) if arn in states else "unknown"


def on_off(is_on: bool | None) -> str:
    return "disputed" if is_on is None else ("On" if is_on else "Off")


def active_now(name: str, snapshot: Snapshot, recovery: Recovery) -> tuple[str, ...]:
    """The region to which a service's switch sends its traffic; none or several if it is odd."""
    service = recovery.services[name]
    if service.has_arc:
        return active_regions(service, snapshot.reading.agreed())
    positions = snapshot.takeovers.get(name, TakeOverLook()).positions(service)
    leads_to = snapshot.views[name].dns_region()
    return active_by_alarms(service, recovery.regions, positions, leads_to)


def status_document(
    recovery: Recovery, snapshot: Snapshot, faults: list[str], command: list[str], exit_code: int
) -> dict[str, Any]:
    """What `status --json` prints."""
    return {
        "version": FORMAT,
        "command": command,
        "recovery_file": str(recovery.path),
        **snapshot_document(snapshot, recovery),
        "active": {name: list(active_now(name, snapshot, recovery)) for name in snapshot.views},
        "faults": faults,
        "exit_code": exit_code,
    }
