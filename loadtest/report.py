"""The JSON report and the live stream of events, made from a `Record`. No I/O but `write_json`.

The report is the raw material: it says what was seen and judges nothing. Judging needs to know what
was commanded and is `loadtest.evidence`'s work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.record import Record

VERSION = 1


def report(
    record: Record,
    expected: Iterable[str],
    regions: Sequence[str],
    started_at: float | None,
    ended_at: float | None,
    arguments: Mapping[str, Any],
    workers: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The report as written to `--report`. Times are seconds since the epoch.

    `expected` are the services that were to be requested; one without samples is listed with zeros.
    `regions` are all regions, the primary first.
    `workers` says how many worker processes took part and how many handed in their last counts.
    """
    counters = record.to_wire()["counters"]
    return {
        "version": VERSION,
        "started_at": started_at,
        "ended_at": ended_at,
        "regions": list(regions),
        "services": record.services(expected),
        "timeline": record.timeline(),
        "marks": record.marks_in_time(),
        "sockets": counters.get("sockets", {}),
        "connections": counters.get("connections", {}),
        "resolver": counters.get("resolver", {}),
        "tokens": counters.get("tokens", {}),
        "arguments": dict(arguments),
        "workers": dict(workers or {}),
    }


def without_samples(report_document: Mapping[str, Any]) -> list[str]:
    """The services that have no sample at all. No data is never green."""
    return [name for name, total in report_document["services"].items() if total["requests"] == 0]


def second_events(
    record: Record, at: float, expected: Iterable[str], sockets_so_far: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The lines of the live stream for what was recorded since the last ones.

    The first line (`kind` = `second`) is always there and names every expected service, so that a
    reader sees silence; a `sockets` line follows when sockets were opened (`opened` since the last
    line, `sockets` in all, by address).
    """
    lines: list[dict[str, Any]] = [
        {"kind": "second", "at": at, "services": record.services(expected)}
    ]
    opened = {address: n for address, n in record.counters["sockets"].items() if n}
    if opened:
        lines.append(
            {"kind": "sockets", "at": at, "opened": opened, "sockets": dict(sockets_so_far)}
        )
    return lines


def summary(report_document: Mapping[str, Any]) -> str:
    """A few lines for people: who answered, and where the sockets went."""
    lines = ["", "Answers by service and region"]
    for name, total in report_document["services"].items():
        regions = ", ".join(f"{region} {n}" for region, n in total["by_region"].items())
        lines.append(
            f"  {name}: {total['requests']} requests, {total['failed']} failed; "
            f"{regions or 'no good answer'}"
        )
        lines.extend(f"    {n} x {reason}" for reason, n in total["failures"].items())
        if "marks" in total:
            lines.append(f"    {', '.join(f'{mark} {n}' for mark, n in total['marks'].items())}")
    lines.append("Sockets opened, by address")
    sockets = report_document["sockets"]
    lines.extend(f"  {address}: {n}" for address, n in sockets.items())
    if not sockets:
        lines.append("  none")
    for title, key in (("Connections given up", "connections"), ("Resolver", "resolver")):
        counts = ", ".join(f"{name} {n}" for name, n in report_document[key].items())
        lines.append(f"{title}: {counts or 'none'}")
    return "\n".join(lines) + "\n"


def write_json(path: str | Path, document: Mapping[str, Any]) -> None:
    """Writes the file in one step, so that a reader never sees half of it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    partial.replace(target)
