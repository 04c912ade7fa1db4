"""Plain text for people: tables, the plan, and what was measured. Pure; no colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from failover.arc import QUORUM
from failover.database_plan import Phase
from failover.errors import SafetyRuleRefusal
from failover.events import Event
from failover.journal import active_now, control_text, on_off
from failover.observe import Snapshot, View
from failover.plan import (
    Plan,
    Request,
    ServiceMove,
    States,
    active_regions,
    describe_active,
    schedule,
)
from failover.recovery import HEALTH, Recovery, Service
from failover.render_database import joined, plan_lines, status_rows
from failover.render_database import status_faults as database_faults
from failover.render_takeover import (
    active_cell,
    expected_region,
    moved_by_itself,
    position_faults,
    position_text,
    settled_lines,
)
from failover.render_takeover import plan_lines as takeover_lines
from failover.steps import Run
from failover.verdict import Verdict

WAIT_PERIOD_HINT = (
    "If the service was moved in the last seconds, the rule's wait period may still be running: "
    "run the same command again."
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be, two spaces apart; no trailing blanks."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def request_line(request: Request) -> str:
    if request.region is not None:
        loss = ", allowing data loss" if request.allow_data_loss else ""
        return f"evacuate {request.region} to {request.target}{loss}"
    loss = ", allowing data loss" if request.allow_data_loss else ""
    word = "back" if request.command == "back" else "move"
    return f"{word} {', '.join(request.services)} to {request.target}{loss}"


def plan_text(plan: Plan, endpoints: int, known: Mapping[str, str] | None = None) -> str:
    """The plan as it is shown before anything changes.

    `known`: service → what earlier journals say of its database's lag.
    """
    parts = [f"Plan: {request_line(plan.request)}"]
    by_arc = [m for m in plan.moves if m.service.has_arc]
    if by_arc:
        parts += ["", table(("SERVICE", "FROM", "TO", "CONTROLS"), [_row(m) for m in by_arc])]
        parts += ["", _calls_line(plan, endpoints)]
    parts += joined(takeover_lines(m) for m in plan.moves if m.takeover)
    seen = [m for m in plan.moves if m.database] + [m for m in plan.settled if _odd(m)]
    parts += joined(
        plan_lines(m.service.name, m.database, (known or {}).get(m.service.name, ""))
        for m in seen
        if m.database
    )
    if plan.settled:
        there = ", ".join(f"{m.service.name} ({m.target})" for m in plan.settled)
        parts += ["", f"Already there: {there}"]
        parts += [line for m in plan.settled for line in settled_lines(m)]
    if plan.left_out:
        parts += ["", "Not moved:", *(f"  {name}: {why}" for name, why in plan.left_out)]
    return "\n".join(parts)


def _odd(move: ServiceMove) -> bool:
    """Was nothing seen of the database of a service that stays?"""
    return move.database is not None and move.database.phase is Phase.UNKNOWN


def _calls_line(plan: Plan, endpoints: int) -> str:
    calls = len(plan.batches)
    controls = sum(len(m.entries) for m in plan.moves)
    noun = "one atomic update" if calls == 1 else f"{calls} atomic updates"
    line = f"{noun} of {controls} controls"
    last = schedule(calls, max(1, endpoints))[-1][1]
    return line + (f", spread over {last:.1f} s to stay within ARC's quota" if last else "")


def _row(move: ServiceMove) -> tuple[str, str, str, str]:
    controls = ", ".join(
        f"{'' if e.kind == 'traffic' else e.kind + ' '}{e.region} "
        + (
            on_off(e.current)
            if e.current == e.wanted
            else f"{on_off(e.current)} → {on_off(e.wanted)}"
        )
        for e in move.entries
    )
    return move.service.name, move.source, move.target, controls


def status_text(recovery: Recovery, snapshot: Snapshot, faults: Sequence[str]) -> str:
    """`failover status`: service × region, and what the outside says."""
    head = ["SERVICE", "ACTIVE"]
    head += [r for r in recovery.regions] + ["DNS", "ANSWERS"]
    rows = []
    for name, view in snapshot.views.items():
        cells = [
            f"{_switch_cell(recovery, snapshot, name, r):<3} {_probe_cell(view, r)}"
            for r in recovery.regions
        ]
        active = _active_cell(recovery, snapshot, name)
        rows.append([name, active, *cells, _dns_cell(view), _answer_cell(view)])
    reading = snapshot.reading
    lines = [table(head, rows)]
    if snapshot.databases:
        databases = status_rows(recovery.services, snapshot.databases, recovery.regions)
        lines += ["", table(*databases)]
    if snapshot.arc_asked:
        lines += ["", _endpoints_line(recovery, snapshot)]
    if snapshot.fault is not None:
        lines.append(f"  {snapshot.fault}")
    lines += [f"  {region}: {cause}" for region, cause in reading.causes.items()]
    if faults:
        lines += ["", "Not as it should be:", *(f"  {fault}" for fault in faults)]
    return "\n".join(lines)


def _switch_cell(recovery: Recovery, snapshot: Snapshot, name: str, region: str) -> str:
    """A region's routing control; or whether the other one has taken it over."""
    service = recovery.services[name]
    if service.has_arc:
        return control_text(snapshot.reading.agreed(), service.routing_controls[region])
    look = snapshot.takeovers.get(name)
    return position_text(look.positions(service)[region] if look else None)


def _active_cell(recovery: Recovery, snapshot: Snapshot, name: str) -> str:
    service, states = recovery.services[name], snapshot.reading.agreed()
    if not service.has_arc:
        leads_to = snapshot.views[name].dns_region()
        return active_cell(service, snapshot.takeovers.get(name), recovery.regions, leads_to)
    said = {control_text(states, arn) for arn in service.routing_controls.values()}
    odd = said - {"On", "Off"}
    return "/".join(sorted(odd)) if odd else describe_active(active_regions(service, states))


def _endpoints_line(recovery: Recovery, snapshot: Snapshot) -> str:
    answered = snapshot.reading.ms
    times = f", in {min(answered.values())} to {max(answered.values())} ms" if answered else ""
    return (
        f"ARC endpoints: {len(snapshot.reading.states)} of {len(recovery.cluster_endpoints)} "
        f"answered{times}"
    )


def _probe_cell(view: View, region: str) -> str:
    look = view.pinned[region]
    if view.healthy(region):
        return f"ok {look.answer.ms} ms"
    return look.answer.describe()


def _dns_cell(view: View) -> str:
    if view.host is None or not view.host.addresses:
        return "no answer"
    return view.dns_region() or ", ".join(view.host.addresses)


def _answer_cell(view: View) -> str:
    if view.host is None:
        return "no answer"
    region = view.answering_region()
    return f"{region} {view.host.answer.ms} ms" if region else view.host.answer.describe()


def status_faults(recovery: Recovery, snapshot: Snapshot) -> list[str]:
    """What is not as it should be; empty when cluster, DNS and answers agree. Pure."""
    states = snapshot.reading.agreed()
    faults = []
    for arn, said in snapshot.reading.disagreements().items():
        seen = ", ".join(f"{region} says {on_off(is_on)}" for region, is_on in sorted(said.items()))
        faults.append(f"the endpoints disagree on {arn}: {seen}")
    unread = snapshot.arc_asked and (snapshot.fault is not None or not snapshot.reading.states)
    if unread:
        faults = ["the routing controls could not be read"]
    elif snapshot.arc_asked and len(snapshot.reading.states) < min(
        QUORUM, len(recovery.cluster_endpoints)
    ):
        faults.append(f"fewer than {QUORUM} ARC endpoints answered")
    for name, view in snapshot.views.items():
        service, active = recovery.services[name], active_now(name, snapshot, recovery)
        if not service.has_arc:
            faults += [f"{name}: {fault}" for fault in _alarm_faults(recovery, snapshot, name)]
        elif not unread:
            faults += [f"{name}: {fault}" for fault in _service_faults(view, active)]
        if not (service.has_arc and unread):
            faults += _database_faults(service, snapshot, states, active)
    return faults


def _alarm_faults(recovery: Recovery, snapshot: Snapshot, name: str) -> list[str]:
    """Of a service with alarms: the alarms themselves, and what is seen of it from outside."""
    service, view = recovery.services[name], snapshot.views[name]
    look, leads_to = snapshot.takeovers.get(name), view.dns_region()
    faults = position_faults(service, look, recovery.regions)
    region = expected_region(service, look, recovery.regions, leads_to)
    if region is None:
        where = active_cell(service, look, recovery.regions, leads_to)
        return [*faults, *([] if service.switch == HEALTH else [f"active region: {where}"])]
    by_itself = moved_by_itself(service, region, leads_to)
    return [*faults, *(by_itself or _outside_faults(view, region)), *_pinned_faults(view, region)]


def _database_faults(
    service: Service, snapshot: Snapshot, states: States, active: Sequence[str]
) -> list[str]:
    """Of a service with a database: its controls, and the database itself."""
    if service.database is None or len(active) != 1:
        return []
    faults = [
        f"{service.name}: database control of {region} is {control_text(states, arn)}, but traffic "
        f"goes to {active[0]}"
        for region, arn in service.database.routing_controls.items()
        if states.get(arn) is not (region == active[0])
    ]
    look = snapshot.databases.get(service.name)
    if look is None:
        return [*faults, f"{service.name}: its database cannot be asked"]
    return faults + database_faults(service.name, look, service.database, active[0])


def _service_faults(view: View, active: Sequence[str]) -> list[str]:
    if len(active) != 1:
        return [f"active region: {describe_active(active)}; exactly one control should be On"]
    return _outside_faults(view, active[0]) + _pinned_faults(view, active[0])


def _outside_faults(view: View, region: str) -> list[str]:
    """`region` should be the one that users reach."""
    faults = []
    if view.dns_region() != region:
        faults.append(f"DNS answers {_dns_cell(view)}, not {region}")
    if view.answering_region() != region:
        faults.append(f"the failover name answers {_answer_cell(view)}, not from {region}")
    return faults


def _pinned_faults(view: View, region: str) -> list[str]:
    faults = []
    for pinned, look in view.pinned.items():
        if not view.healthy(pinned):
            role = "active" if pinned == region else "standby"
            faults.append(f"{pinned} ({role}) does not answer well: {look.answer.describe()}")
    return faults


def event_line(event: Event) -> str | None:
    """How progress is shown; None for an event without a text."""
    if not event.text:
        return None
    return f"{event.ms / 1000:7.2f} s  {event.text}"


def result_text(plan: Plan, run: Run, verdict: Verdict) -> str:
    """What came of it, with the times that were measured from outside."""
    parts = []
    timed = [m for m in plan.moves if m.service.name in run.changed]
    if timed:
        head = ("SERVICE", "NOW IN", "ACCEPTED", "READ BACK", "DNS", "FIRST ANSWER")
        parts += [table(head, [_times_row(m, run) for m in timed]), "(times from the command)"]
        parts += [
            f"{name}: writes were stopped for {ms} ms, and until clients follow DNS"
            for name, ms in (
                (m.service.name, run.timeline(m.service.name).stopped_ms()) for m in timed
            )
            if ms is not None
        ]
    if verdict.exit_code == 0:
        done = "Done." if plan.moves else "Nothing to do: everything is already there."
        parts.append(done)
    else:
        parts += [f"{verdict.status.capitalize()} (exit {verdict.exit_code}):"]
        parts += ["  " + reason.replace("\n", "\n  ") for reason in verdict.reasons]
        if any(isinstance(error, SafetyRuleRefusal) for error in run.failures.values()):
            parts.append(WAIT_PERIOD_HINT)
    parts += [
        line
        for m in timed
        if m.takeover and m.service.name not in run.failures
        for line in m.takeover.afterwards
    ]
    parts += run.notes
    return "\n".join(parts)


def _times_row(move: ServiceMove, run: Run) -> tuple[str, ...]:
    times = run.timeline(move.service.name).document()
    keys = ("accepted_ms", "read_back_ms", "dns_ms", "first_answer_ms")
    now = move.target if times["first_answer_ms"] is not None else "not confirmed"
    return (move.service.name, now, *(_ms(times[key]) for key in keys))


def _ms(value: int | None) -> str:
    return "not seen" if value is None else f"{value} ms"
