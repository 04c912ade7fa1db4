"""The verdict: was it seen from outside that what was told to move moved, and nothing else?

    python -m loadtest.evidence --report reports/load.json --moves moves.json \
        --json reports/demo.json --html reports/demo.html

Exit code 0: passed, 1: failed, 2: the input cannot be used. The arithmetic is pure (`judge`); it
knows only the report of the load test and the list of what was commanded (see `loadtest.moves`).

How the numbers are defined, per service and event:

- `commanded_at`: as given.
- `first_new_region_at`: the first good answer from the new region at or after the command (after a
  kill: at or after the kill) and before the next event of that service. None when there was none
  or when the event does not move the service.
- `last_old_region_at`: the last good answer from the old region before the next event.
- `rto_seconds`: for a planned move, and for the evacuation of a region that was alive,
  `first_new_region_at - commanded_at`. After a kill it is counted from the kill, both in the
  entry of the kill and in that of the evacuation.
- `failed_requests`: failed requests of the service that ended at or after `commanded_at` and
  before the next event of that service. So a failed request belongs to at most one event.

The verdict is `failed` when a service answered from a region in which it was not expected; when a
request failed outside of an outage (an outage: from a kill until the evacuation has settled), most
of all during a planned move; when a move never arrived; when a service has no sample at all or none
in one of the phases between commands; or when counts were lost.

Services that are written to have more numbers and reasons: see `loadtest.losses`.

Moves of the external API itself change which gateway answers, which no answer tells. Of them only
failed requests, of all services together, can be seen: they are listed under `api`.

Downsides: the report knows exact times only for the first and last answer within a tenth of a
second. When a command falls between those two, the failed requests of that tenth are all counted
to the command, and `first_new_region_at` is the later of the two: late by less than 0.1 s, never
early.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest import losses
from loadtest.errors import InputError
from loadtest.moves import (
    EVACUATION,
    FOREVER,
    PLANNED_MOVE,
    REGION_KILLED,
    Course,
    Move,
    Transition,
    contradictions,
    course,
    describe,
    kill_before,
    outages,
    parse,
    phases,
)
from loadtest.page import page
from loadtest.record import FAILED, Cell, cells_of_timeline
from loadtest.recovery import EXTERNAL_API
from loadtest.report import write_json

PASSED = "passed"
FAILED_VERDICT = "failed"
DEFAULT_SETTLE = 3.0
"""Seconds after a move's end in which the old region may still answer."""
MINIMUM_PHASE = 1.0
"""A phase shorter than this many seconds need not have samples of every service."""
EXIT_CODES = {PASSED: 0, FAILED_VERDICT: 1}
EXIT_USAGE = 2
Cells = Mapping[str, Sequence[tuple[str, Cell]]]
"""Per service: (region or FAILED, cell) in order of time."""


def judge(
    report: Mapping[str, Any],
    moves: Sequence[Move],
    settle: float = DEFAULT_SETTLE,
    results: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Returns the document of `--json`. `moves` are in order of time, `settle` is in seconds,
    `results` are what `loadtest.ledger` found, in order of time.

    Raises `InputError` when the moves contradict each other.
    """
    regions: Sequence[str] = report["regions"]
    services = list(report["services"])
    wrong = contradictions(services, moves, regions[0])
    if wrong:
        raise InputError(wrong)
    cells = _cells_by_service(report)
    courses = {name: course(name, moves, regions[0], settle) for name in services}
    reasons = [
        *_run_reasons(report, moves),
        *_sample_reasons(report, cells, moves),
        *(r for name in services for r in _stray_reasons(report, name, cells[name], courses[name])),
        *_failure_reasons(cells, moves, settle),
    ]
    documents = {}
    for name in services:
        events = _service_events(name, cells[name], courses[name], moves)
        reasons.extend(_arrival_reasons(name, courses[name], events))
        marks = losses.marks_of(report, name)
        if marks:
            events = losses.with_writes(name, events, marks, results)
            moved = [transition.move.commanded_at for transition in courses[name].transitions]
            keeps_ledger = bool(report["arguments"].get("ledger"))
            reasons.extend(losses.reasons(name, events, moved, keeps_ledger, results))
        documents[name] = {**report["services"][name], "events": events}
    return {
        "version": 1,
        "verdict": FAILED_VERDICT if reasons else PASSED,
        "reasons": reasons,
        "started_at": report["started_at"],
        "ended_at": report["ended_at"],
        "regions": list(regions),
        "services": documents,
        "api": {"events": _api_events(cells, moves)},
        "moves": [_move_document(move) for move in moves],
        "settle_seconds": settle,
        "sockets": report["sockets"],
        "connections": report["connections"],
        "resolver": report["resolver"],
        "arguments": report["arguments"],
    }


def _cells_by_service(report: Mapping[str, Any]) -> dict[str, list[tuple[str, Cell]]]:
    cells: dict[str, list[tuple[str, Cell]]] = {name: [] for name in report["services"]}
    for service, region, cell in cells_of_timeline(report["timeline"]):
        cells[service].append((region, cell))
    return cells


# Events


def _service_events(
    service: str, cells: Sequence[tuple[str, Cell]], where: Course, moves: Sequence[Move]
) -> list[dict[str, Any]]:
    own = [move for move in moves if move.concerns(service)]
    events = []
    for index, move in enumerate(own):
        end = own[index + 1].commanded_at if index + 1 < len(own) else FOREVER
        events.append(_event(cells, where, move, end, moves))
    return events


def _event(
    cells: Sequence[tuple[str, Cell]],
    where: Course,
    move: Move,
    end: float,
    moves: Sequence[Move],
) -> dict[str, Any]:
    transition, counted_from, seen_until = _what_moved(where, move, end, moves)
    first_new = last_old = None
    if transition is not None:
        first_new = _first_answer(cells, transition.target, counted_from, seen_until)
        last_old = _last_answer(cells, transition.source, seen_until)
    return {
        "kind": move.kind,
        "from": transition.source if transition else move.source,
        "to": transition.target if transition else move.target or None,
        "commanded_at": move.commanded_at,
        "ended_at": move.ended_at,
        "first_new_region_at": first_new,
        "last_old_region_at": last_old,
        "rto_seconds": round(first_new - counted_from, 6) if first_new is not None else None,
        "failed_requests": _failed_between(cells, move.commanded_at, end),
    }


def _what_moved(
    where: Course, move: Move, end: float, moves: Sequence[Move]
) -> tuple[Transition | None, float, float]:
    """(transition, moment from which its RTO counts, end of the time in which it is looked for)."""
    if move.kind == REGION_KILLED:
        for later in where.transitions:
            if later.move.kind == EVACUATION and kill_before(later.move, moves) is move:
                following = [m for m in moves if m.commanded_at > later.move.commanded_at]
                until = following[0].commanded_at if following else FOREVER
                return later, move.commanded_at, until
        return None, move.commanded_at, end
    kill = kill_before(move, moves) if move.kind == EVACUATION else None
    return where.transition_of(move), (kill or move).commanded_at, end


def _first_answer(
    cells: Sequence[tuple[str, Cell]], region: str, start: float, end: float
) -> float | None:
    for name, cell in cells:
        if name == region and cell.last >= start:
            at = cell.first if cell.first >= start else cell.last
            return at if at < end else None
    return None


def _last_answer(cells: Sequence[tuple[str, Cell]], region: str, end: float) -> float | None:
    for name, cell in reversed(cells):
        if name == region and cell.first < end:
            return cell.last if cell.last < end else cell.first
    return None


def _failed_between(cells: Sequence[tuple[str, Cell]], start: float, end: float) -> int:
    return sum(cell.count for name, cell in cells if name == FAILED and start <= cell.last < end)


def _api_events(cells: Cells, moves: Sequence[Move]) -> list[dict[str, Any]]:
    own = [move for move in moves if move.services is not None and EXTERNAL_API in move.services]
    events = []
    for move in own:
        later = [m.commanded_at for m in moves if m.commanded_at > move.commanded_at]
        end = later[0] if later else FOREVER
        failed = sum(_failed_between(c, move.commanded_at, end) for c in cells.values())
        events.append(
            {
                "kind": move.kind,
                "from": move.source,
                "to": move.target or None,
                "commanded_at": move.commanded_at,
                "ended_at": move.ended_at,
                "first_new_region_at": None,
                "last_old_region_at": None,
                "rto_seconds": None,
                "failed_requests": failed,
            }
        )
    return events


def _move_document(move: Move) -> dict[str, Any]:
    return {
        "kind": move.kind,
        "services": None if move.services is None else list(move.services),
        "from": move.source,
        "to": move.target or None,
        "commanded_at": move.commanded_at,
        "ended_at": move.ended_at,
        "label": describe(move),
    }


# Reasons


def _run_reasons(report: Mapping[str, Any], moves: Sequence[Move]) -> list[str]:
    missing = report["workers"].get("missing", 0)
    reasons = [f"the last counts of workers are missing: {missing}"] if missing else []
    if not report["services"]:
        reasons.append("no service was requested")
    if report["started_at"] is None:
        return [*reasons, "the load test was never started"]
    unseen = {
        name
        for move in moves
        if move.kind == PLANNED_MOVE
        for name in move.services or ()
        if name != EXTERNAL_API and name not in report["services"]
    }
    reasons.extend(f"{name} was moved, but never requested" for name in sorted(unseen))
    reasons.extend(
        f"{describe(move)}: commanded while there was no traffic"
        for move in moves
        if not report["started_at"] <= move.commanded_at < report["ended_at"]
    )
    return reasons


def _sample_reasons(report: Mapping[str, Any], cells: Cells, moves: Sequence[Move]) -> list[str]:
    silent = [name for name, own in cells.items() if not own]
    reasons = [f"no sample of {name}" for name in silent]
    if report["started_at"] is None:
        return reasons
    for phase, start, end in phases(moves, report["started_at"], report["ended_at"]):
        if end - start < MINIMUM_PHASE:
            continue
        reasons.extend(
            f"no sample of {name} in the {end - start:.1f} s after {phase}"
            for name, own in cells.items()
            if name not in silent and not any(_touches(cell, start, end) for _, cell in own)
        )
    return reasons


def _touches(cell: Cell, start: float, end: float) -> bool:
    return start <= cell.first < end or start <= cell.last < end


def _stray_reasons(
    report: Mapping[str, Any], service: str, cells: Sequence[tuple[str, Cell]], where: Course
) -> list[str]:
    """One reason per region from which the service answered untold."""
    strays: dict[str, list[float]] = {}
    for region, cell in cells:
        if region == FAILED:
            continue
        outside = [at for at in (cell.first, cell.last) if region not in where.allowed(at)]
        if outside:
            # With both ends outside, all of the tenth of a second is; with one end, at least one.
            count = cell.count if len(outside) == 2 else 1
            known = strays.setdefault(region, [outside[0], 0])
            known[1] += count
    return [
        f"{service} answered {_times(int(count))} from {region}, where it was not expected "
        f"(first {first - report['started_at']:.2f} s after the start)"
        for region, (first, count) in strays.items()
    ]


def _failure_reasons(cells: Cells, moves: Sequence[Move], settle: float) -> list[str]:
    """Failed requests outside of outages, per service and the command they followed."""
    excused = outages(moves, settle)
    counts: dict[tuple[str, str], int] = {}
    for service, own in cells.items():
        for region, cell in own:
            if region != FAILED or any(start <= cell.last < end for start, end in excused):
                continue
            before = [move for move in moves if move.commanded_at <= cell.last]
            after = _after(before[-1]) if before else "before anything was commanded"
            counts[service, after] = counts.get((service, after), 0) + cell.count
    return [
        f"{_requests(count)} of {service} failed {after}"
        for (service, after), count in counts.items()
    ]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _after(move: Move) -> str:
    planned = " (planned)" if move.kind == PLANNED_MOVE else ""
    return f"after the {describe(move)}{planned}"


def _arrival_reasons(service: str, where: Course, events: Sequence[Mapping[str, Any]]) -> list[str]:
    commanded = {transition.move.commanded_at for transition in where.transitions}
    return [
        f"{service} was never seen in {event['to']} after it was sent there ({event['kind']})"
        for event in events
        if event["kind"] in (PLANNED_MOVE, EVACUATION)
        and event["commanded_at"] in commanded
        and event["first_new_region_at"] is None
    ]


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 passed, 1 failed, 2 unusable input."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.evidence", description="Judges a run of the load test."
    )
    parser.add_argument("--report", required=True, help="the load test's JSON report")
    parser.add_argument("--moves", required=True, help="JSON list of what was commanded")
    parser.add_argument(
        "--ledger-result",
        action="append",
        default=[],
        help="a result of python -m loadtest.ledger; may be given often",
    )
    parser.add_argument("--json", help="write the evidence here")
    parser.add_argument("--html", help="write the page here")
    parser.add_argument("--title", default="Failover evidence", help="the page's title")
    parser.add_argument(
        "--settle",
        type=float,
        default=DEFAULT_SETTLE,
        help="seconds after a move's end in which the old region may still answer "
        "(default %(default)s; use TTL + connection age of the slowest client)",
    )
    options = parser.parse_args(arguments)
    try:
        report = _read_report(options.report)
        moves = parse(_read(options.moves), report["regions"])
        results = [losses.load_result(path) for path in options.ledger_result]
        results.sort(key=lambda result: float(result["read_at"]))
        evidence = judge(report, moves, options.settle, results)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    if options.json:
        write_json(options.json, evidence)
    if options.html:
        Path(options.html).parent.mkdir(parents=True, exist_ok=True)
        Path(options.html).write_text(
            page(evidence, report["timeline"], options.title, report.get("marks", ())),
            encoding="utf-8",
        )
    sys.stdout.write(f"verdict: {evidence['verdict']}\n")
    sys.stdout.writelines(f"  - {reason}\n" for reason in evidence["reasons"])
    return EXIT_CODES[evidence["verdict"]]


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise InputError([f"{path}: not JSON: {error}"]) from error


def _read_report(path: str) -> dict[str, Any]:
    report = _read(path)
    keys = ("regions", "services", "timeline", "started_at", "ended_at", "sockets", "connections")
    missing = (
        [key for key in (*keys, "resolver", "arguments", "workers") if key not in report]
        if isinstance(report, dict)
        else ["everything"]
    )
    if missing:
        raise InputError([f"{path}: not a load-test report, {', '.join(missing)} missing"])
    return dict(report)


if __name__ == "__main__":
    sys.exit(main())
